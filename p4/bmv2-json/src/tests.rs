use crate::*;

const SMALL: &str = r#"{
  "header_types": [{"name": "h_t", "id": 0, "fields": [["f", 9, false], ["v", "*"]], "max_length": 4}],
  "parsers": [{"name": "parser", "id": 0, "init_state": "start", "parse_states": [{"name": "start", "id": 0,
    "parser_ops": [{"op": "primitive", "parameters": [{"op": "remove_header", "parameters": [{"type": "header", "value": "h"}]}]}],
    "transitions": [{"type": "default", "value": null, "mask": null, "next_state": null}], "transition_key": []}]}],
  "actions": [{"name": "a", "id": 1, "runtime_data": [], "primitives": [{"op": "assign", "parameters": [
    {"type": "field", "value": ["h", "f"]},
    {"value": {"type": "expression", "value": {"op": "access_field", "left": {"type": "header", "value": "h"}, "right": 0}}, "type": "expression"}]}]}],
  "__meta__": {"version": [2, 23]}
}"#;

#[test]
fn reads_doubly_wrapped_expressions_and_parser_calls() {
    let program = Program::from_slice(SMALL.as_bytes()).unwrap();
    assert_eq!(program.header_types[0].fields[1].width, FieldWidth::Variable);
    let ParserParameter::Call(call) = &program.parsers[0].parse_states[0].parser_ops[0].parameters[0] else {
        panic!("expected a call");
    };
    assert_eq!(call.op, "remove_header");
    let Value::Expression(outer) = &program.actions[0].primitives[0].parameters[1] else {
        panic!()
    };
    let Expression::Value(Value::Expression(inner)) = &**outer else {
        panic!("wrapped once")
    };
    let Expression::Op(op) = &**inner else { panic!() };
    assert_eq!(op.right.as_deref(), Some(&Operand::Offset(0)));
}

#[test]
fn what_is_written_reads_back_the_same() {
    let program = Program::from_slice(SMALL.as_bytes()).unwrap();
    let again = Program::from_slice(program.to_string_pretty().as_bytes()).unwrap();
    assert_eq!(program, again);
}

#[test]
fn errors_name_the_path() {
    let text = SMALL.replace(r#""op": "primitive""#, r#""op": "primitif""#);
    let error = Program::from_slice(text.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("parsers[0].parse_states[0].parser_ops[0].op"), "{error}");
    let text = SMALL.replace(
        r#"{"type": "field", "value": ["h", "f"]}"#,
        r#"{"type": "field", "value": ["h"]}"#,
    );
    let error = Program::from_slice(text.as_bytes()).unwrap_err().to_string();
    assert!(
        error.contains("actions[0].primitives[0].parameters[0].value"),
        "{error}"
    );
}

#[test]
fn another_major_version_is_refused() {
    let text = SMALL.replace("[2, 23]", "[3, 0]");
    assert!(matches!(
        Program::from_slice(text.as_bytes()),
        Err(Error::Version { found: 3 })
    ));
}

#[test]
fn hex_strings_keep_width_and_sign() {
    assert_eq!(HexStr::parse("0x0800").unwrap().bytes(), [8, 0]);
    assert_eq!(HexStr::parse("0x123").unwrap().bytes(), [1, 0x23]);
    assert_eq!(HexStr::parse("-0x1").unwrap().value(), (-1).into());
    assert!(HexStr::parse("0x").is_none());
    assert!(HexStr::parse("0x1g").is_none());
    assert_eq!(HexStr::padded(&5u32.into(), 9).as_str(), "0x0005");
}
