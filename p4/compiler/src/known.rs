//! The annotations that this compiler uses, and the form of their arguments.
//!
//! P4_16 leaves the body of `@name(...)` to the definition of the annotation (section "Annotations"). The bodies of the annotations
//! listed here are compile-time expressions; the body of any other annotation stays a list of tokens. The compiler
//! warns about a known annotation where it has no effect.
//! Sources: P4_16, section "Predefined annotations"; P4Runtime, section "P4Info Message"; BMv2's documents.

/// Form of the text between the parentheses of an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// No arguments.
    Empty,
    /// One string.
    Text,
    /// One string or nothing.
    TextOrEmpty,
    /// One whole number between these two.
    Number(i64, i64),
    /// Whole numbers, none below zero.
    Numbers,
    /// The name of a match kind.
    MatchKind,
    /// `key = "text"` pairs.
    TextPairs,
    /// `key = number` pairs.
    NumberPairs,
    /// A URI, and the type that a controller uses: `bit<W>`, `string` or a number of bits.
    Translation,
}

/// Largest id, size or weight that P4Info's fields of 32 bits hold.
const MAX_INT32: i64 = i32::MAX as i64;
/// Ids are unsigned.
const MAX_ID: i64 = u32::MAX as i64;

/// The form of a known annotation's arguments.
pub fn form(name: &str) -> Option<Form> {
    Some(match name {
        "atomic"
        | "defaultonly"
        | "disable_optimization"
        | "hidden"
        | "likely"
        | "metadata"
        | "noSideEffects"
        | "nounroll"
        | "optional"
        | "persistent"
        | "pure"
        | "tableonly"
        | "unlikely"
        | "unroll" => Form::Empty,
        "alias" | "brief" | "controller_header" | "description" | "name" | "selector_size_semantics" => Form::Text,
        "deprecated" | "noWarn" => Form::TextOrEmpty,
        "id" => Form::Number(1, MAX_ID),
        "max_group_size" | "max_member_weight" => Form::Number(0, MAX_INT32),
        "priority" => Form::Number(i64::MIN, i64::MAX),
        "field_list" => Form::Numbers,
        "match" => Form::MatchKind,
        "pkginfo" => Form::TextPairs,
        "platform_property" => Form::NumberPairs,
        "p4runtime_translation" => Form::Translation,
        _ => return None,
    })
}

/// What an annotation belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Table,
    Key,
    ActionUse,
    Entry,
    Action,
    /// A parameter of an action that the control plane gives a value.
    Data,
    /// Any other parameter.
    Param,
    /// A counter, meter or register.
    Object,
    /// An action profile or selector.
    Profile,
    /// The instance of a package.
    Package,
    ValueSet,
    /// A struct, header or union.
    Type,
    NewType,
    Field,
    /// Enums, externs, typedefs, parsers, controls and their instances, states, functions, constants, variables, blocks,
    /// loops, properties of tables that make no object.
    Other,
}

/// Whether a known annotation has a meaning at a place. Annotations that are only for people or other tools have one
/// anywhere.
pub fn means(name: &str, at: Place) -> bool {
    use Place as P;
    match name {
        "id" => matches!(
            at,
            P::Table | P::Key | P::Action | P::Data | P::Object | P::Profile | P::ValueSet | P::Type | P::Field
        ),
        "hidden" => matches!(at, P::Table | P::Key | P::Action | P::Type | P::Field),
        "field_list" | "alias" | "match" => at == P::Field,
        "priority" => at == P::Entry,
        "tableonly" | "defaultonly" => at == P::ActionUse,
        "controller_header" => at == P::Type,
        "max_group_size" | "max_member_weight" | "selector_size_semantics" => at == P::Profile,
        "pkginfo" | "platform_property" => at == P::Package,
        "p4runtime_translation" => at == P::NewType,
        "optional" => matches!(at, P::Param | P::Data),
        _ => true,
    }
}
