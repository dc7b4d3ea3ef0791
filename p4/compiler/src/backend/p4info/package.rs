//! What the annotations of `main` say about the whole program (P4Runtime specification, section "PkgInfo").

use super::{Info, PACKAGE_CONSUMED, annotation_texts, doc, structured};
use crate::diagnostics::Lint;
use crate::ir::annotation::{Annotation, Value};
use num_traits::ToPrimitive;
use p4runtime_proto::p4::config::v1 as pb;

impl Info<'_> {
    pub(super) fn package(&mut self) {
        let mut info = pb::PkgInfo {
            arch: "v1model".into(),
            ..Default::default()
        };
        let main = self.ir.main.and_then(|m| self.ir.instances.get(m.index()));
        if let Some(annotations) = main.map(|m| m.annotations.clone()) {
            if let Some(a) = annotations.get("pkginfo") {
                self.texts(a, &mut info);
            }
            if let Some(a) = annotations.get("platform_property") {
                info.platform_properties = Some(self.properties(a));
            }
            info.annotations = annotation_texts(&annotations, PACKAGE_CONSUMED);
            info.structured_annotations = structured(&annotations);
            info.doc = doc(&annotations);
        }
        self.out.pkg_info = Some(info);
    }

    /// `@pkginfo(key = "text", ...)`.
    fn texts(&mut self, a: &Annotation, info: &mut pb::PkgInfo) {
        for (key, value) in a.pairs() {
            let Value::Str(value) = value else { continue };
            let field = match &**key {
                "name" => &mut info.name,
                "version" => &mut info.version,
                "organization" => &mut info.organization,
                "contact" => &mut info.contact,
                "url" => &mut info.url,
                "arch" => {
                    self.sink.warn(
                        Lint::Unsupported,
                        a.span,
                        "the architecture is v1model, but P4Info will name this one",
                    );
                    &mut info.arch
                }
                _ => {
                    self.unknown_key(a, key);
                    continue;
                }
            };
            *field = value.to_string();
        }
    }

    /// `@platform_property(key = number, ...)`.
    fn properties(&mut self, a: &Annotation) -> pb::PlatformProperties {
        let mut out = pb::PlatformProperties::default();
        for (key, value) in a.pairs() {
            let Value::Int(value) = value else { continue };
            let field = match &**key {
                "multicast_group_table_size" => &mut out.multicast_group_table_size,
                "multicast_group_table_total_replicas" => &mut out.multicast_group_table_total_replicas,
                "multicast_group_table_max_replicas_per_entry" => &mut out.multicast_group_table_max_replicas_per_entry,
                _ => {
                    self.unknown_key(a, key);
                    continue;
                }
            };
            // The type checker has made sure that the numbers have at most 32 bits.
            *field = value.to_i32().unwrap_or(0);
        }
        out
    }

    fn unknown_key(&mut self, a: &Annotation, key: &str) {
        self.sink.warn(
            Lint::Unsupported,
            a.span,
            format!("@{} has no key {key}; it is ignored", a.name),
        );
    }
}
