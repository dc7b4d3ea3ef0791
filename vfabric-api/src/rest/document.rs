//! Parts of the OpenAPI document that do not come from the handlers: the form of values with their own parsing rules,
//! errors, and the role that each operation needs.

use axum::http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::operation::Operations;
use super::repeat::{MAX_KEY, takes_key};
use super::{MAX_REASON, PAGE_LIMIT};
use crate::access::Needs;
use crate::ident::Vni;
use crate::labels::{MAX_LABELS, MAX_SELECTOR};
use crate::machine::REASON;

/// Methods of OpenAPI that this API has.
const METHODS: [Method; 5] = [Method::GET, Method::PUT, Method::POST, Method::PATCH, Method::DELETE];

/// The rule of [`crate::ident::Name`].
const NAME: &str = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";

/// The rule of [`crate::labels::LabelKey`].
const LABEL_KEY: &str = "^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$";

/// The rule of [`crate::labels::LabelValue`].
const LABEL_VALUE: &str = "^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$";

/// The characters of a selector; its grammar is in [`crate::labels`].
const SELECTOR: &str = "^[A-Za-z0-9._/:@+=!(), -]*$";

/// Completes the document.
pub(super) fn complete(document: &mut Value) {
    let operations = Operations::new();
    let schemas = at(document, &["components", "schemas"]);
    for (name, rules) in values() {
        if let Some(schema) = schemas.get_mut(name).and_then(Value::as_object_mut) {
            schema.extend(rules);
        }
    }
    name_places(schemas);
    // The generator names the type of a map but not that of its values.
    schemas.remove("BTreeMap");
    for schema in schemas.values_mut() {
        if let Some(labels) = schema.pointer_mut("/properties/labels") {
            *labels = labels_schema(&labels["description"]);
        }
    }
    for (pointer, rules) in nested() {
        if let Some(schema) = document.pointer_mut(pointer).and_then(Value::as_object_mut) {
            schema.extend(rules);
        }
    }
    for (path, item) in at(document, &["paths"]) {
        let Some(item) = item.as_object_mut() else { continue };
        for method in METHODS {
            let Some(operation) = item.get_mut(&method.as_str().to_lowercase()) else {
                continue;
            };
            if let Some(role) = operations.needs(&method, path).and_then(Needs::role) {
                at(operation, &[]).insert("x-vfabric-role".into(), role.to_string().into());
            }
            let responses = at(operation, &["responses"]);
            responses.insert("default".into(), problem());
            responses
                .iter_mut()
                .for_each(|(status, response)| describe(status, response));
            if takes_key(&method, path) {
                repeatable(operation);
            }
            parameters(operation);
        }
    }
    integers(document);
}

/// The labels of an object.
fn labels_schema(description: &Value) -> Value {
    json!({
        "description": description,
        "type": "object",
        "maxProperties": MAX_LABELS,
        "propertyNames": {"pattern": LABEL_KEY, "minLength": 1, "maxLength": 63},
        "additionalProperties": {"type": "string", "pattern": LABEL_VALUE, "maxLength": 63},
    })
}

/// The places of an attachment get schemas with names of their own: generators of clients give two nameless ones the same.
fn name_places(schemas: &mut Map<String, Value>) {
    let mut named = Vec::new();
    let places = schemas.get_mut("Place").and_then(|place| place["oneOf"].as_array_mut());
    for place in places.into_iter().flatten() {
        at(place, &[]).insert("additionalProperties".into(), false.into());
        for (word, schema) in at(place, &["properties"]) {
            at(schema, &[]).insert("additionalProperties".into(), false.into());
            let name = format!("Place_{word}");
            let reference = json!({"$ref": format!("#/components/schemas/{name}")});
            named.push((name, std::mem::replace(schema, reference)));
        }
    }
    schemas.extend(named);
}

/// A response has a description (OpenAPI 3.1, section 4.8.17).
fn describe(status: &str, response: &mut Value) {
    let described = response["description"].as_str().is_some_and(|text| !text.is_empty());
    if !described {
        let code = status.parse().ok().and_then(|code| StatusCode::from_u16(code).ok());
        let reason = code.and_then(|code| code.canonical_reason()).unwrap_or("The answer");
        at(response, &[]).insert("description".into(), reason.into());
    }
}

/// Integers are unsigned and bounded by their type. The generator declares them as signed and without an upper bound.
fn integers(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let kind = map.get("type");
            let is_one = |kind: &Value| {
                *kind == "integer"
                    || kind
                        .as_array()
                        .is_some_and(|all| all.iter().any(|one| one == "integer"))
            };
            if kind.is_some_and(is_one) {
                let is_short = map.get("format").is_some_and(|format| format == "int32");
                let (format, end) = if is_short {
                    ("uint32", u32::MAX.into())
                } else {
                    ("uint64", u64::MAX)
                };
                map.insert("format".into(), format.into());
                map.entry("minimum").or_insert(0.into());
                map.entry("maximum").or_insert(end.into());
            }
            map.values_mut().for_each(integers);
        }
        Value::Array(all) => all.iter_mut().for_each(integers),
        _ => {}
    }
}

/// The object at a path; created if it does not exist.
fn at<'a>(mut value: &'a mut Value, path: &[&str]) -> &'a mut Map<String, Value> {
    for name in path {
        value = &mut value[*name];
    }
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("it was made one"),
    }
}

/// Any error (RFC 9457).
fn problem() -> Value {
    let schema = json!({"$ref": "#/components/schemas/ApiError"});
    json!({
        "description": "The error, with the fields that are wrong",
        "content": {"application/problem+json": {"schema": schema}},
    })
}

fn rules(rules: Value) -> Map<String, Value> {
    rules.as_object().cloned().unwrap_or_default()
}

/// Rules that attributes of fields cannot express, each with its place in the document.
fn nested() -> Vec<(&'static str, Map<String, Value>)> {
    vec![
        (
            "/components/schemas/Place_host/properties/interface",
            rules(json!({"not": {"enum": ["lo", "all", "default"]}})),
        ),
        // A file removes objects in a vDC, not the vDC.
        (
            "/components/schemas/Removal/properties/kind",
            rules(json!({"enum": ["network", "router", "attachment"]})),
        ),
        (
            "/components/schemas/UserSpec/properties/oidc_subject",
            rules(json!({"minLength": 1, "maxLength": 255})),
        ),
        // A new machine has a serial number, a MAC address, or both.
        (
            "/components/schemas/ReplaceSpec",
            rules(json!({"not": {"properties": {"serial": {"type": "null"}, "mac": {"type": "null"}}}})),
        ),
        ("/components/schemas/RebootSpec/properties/reason", reason_of_restart()),
        ("/components/schemas/ReplaceSpec/properties/reason", reason_of_restart()),
        ("/components/schemas/RetireSpec/properties/reason", reason_of_restart()),
    ]
}

/// A text without control characters.
fn reason_of_restart() -> Map<String, Value> {
    rules(json!({"maxLength": REASON, "pattern": r"^[^\x00-\x1f\x7f-\x9f]*$"}))
}

/// Values with their own parsing rules, described by these rules.
fn values() -> Vec<(&'static str, Map<String, Value>)> {
    vec![
        ("Name", rules(json!({"pattern": NAME, "minLength": 1, "maxLength": 63}))),
        (
            "Label",
            rules(json!({"pattern": "^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$", "minLength": 1, "maxLength": 64})),
        ),
        ("Mac", rules(json!({"pattern": "^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$"}))),
        ("Vni", rules(json!({"minimum": 1, "maximum": Vni::MAX}))),
        ("PortId", rules(json!({"minimum": 1, "maximum": 509}))),
        (
            "OwnerName",
            rules(json!({"pattern": "^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$", "minLength": 1, "maxLength": 128})),
        ),
        (
            "IpAddress",
            rules(json!({"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]})),
        ),
        ("IpPrefix", rules(json!({"pattern": prefix()}))),
        ("SocketAddress", rules(json!({"pattern": socket_address()}))),
    ]
}

/// An octet as text.
const OCTET: &str = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";

fn ipv4() -> String {
    format!("({OCTET}\\.){{3}}{OCTET}")
}

/// The forms of RFC 4291, section 2.2, without those that end in an IPv4 address.
fn ipv6() -> String {
    let group = "[0-9A-Fa-f]{1,4}";
    // Groups before and behind `::`, at most seven of them.
    let cut = (1..7).map(|before| format!("({group}:){{1,{before}}}(:{group}){{1,{}}}", 7 - before));
    let whole = [
        format!("({group}:){{7}}{group}"),
        format!("({group}:){{1,7}}:"),
        format!(":(:{group}){{1,7}}"),
        "::".to_owned(),
    ];
    let forms: Vec<String> = whole.into_iter().chain(cut).collect();
    format!("({})", forms.join("|"))
}

fn prefix() -> String {
    let (v4, v6) = (ipv4(), ipv6());
    format!("^({v4}/(3[0-2]|[12]?[0-9])|{v6}/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))$")
}

fn socket_address() -> String {
    let (v4, v6) = (ipv4(), ipv6());
    let port = "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3}|0)";
    format!("^({v4}|\\[{v6}\\]):{port}$")
}

/// Whether a parameter is a text (`after` of the watch is a number).
fn is_text(parameter: &Value) -> bool {
    let kind = &parameter["schema"]["type"];
    *kind == "string" || kind.as_array().is_some_and(|kinds| kinds.iter().any(|k| k == "string"))
}

/// Documents that a call may carry an `Idempotency-Key`.
fn repeatable(operation: &mut Value) {
    let key = json!({
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Makes the call safe to repeat: the same call with the same key gets the first response again; \
            another call with this key is refused (422). A key belongs to its caller and is kept for 24 hours.",
        "required": false,
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": "^[!-~]+$"},
    });
    let replayed = json!({
        "description": "`true`: the call was carried out before, and this is the first response",
        "schema": {"type": "string", "enum": ["true"]},
    });
    for (status, response) in at(operation, &["responses"]) {
        if status.starts_with('2') {
            at(response, &["headers"]).insert("Idempotent-Replayed".into(), replayed.clone());
        }
    }
    let parameters = &mut operation["parameters"];
    match parameters.as_array_mut() {
        Some(parameters) => parameters.push(key),
        None => *parameters = json!([key]),
    }
}

/// A parameter is either left out or has a value; it is never `null`.
fn present(parameter: &mut Value) {
    let schema = at(parameter, &["schema"]);
    if let Some(kinds) = schema.get_mut("type").and_then(Value::as_array_mut) {
        kinds.retain(|kind| kind != "null");
        if let [only] = kinds.as_slice() {
            let only = only.clone();
            schema.insert("type".into(), only);
        }
    }
}

/// Bounds of query parameters and headers.
fn parameters(operation: &mut Value) {
    let Some(parameters) = operation.get_mut("parameters").and_then(Value::as_array_mut) else {
        return;
    };
    for parameter in parameters {
        present(parameter);
        let bounds = match (parameter["name"].as_str(), parameter["in"].as_str()) {
            (Some("limit"), Some("query")) => json!({"minimum": 1, "maximum": PAGE_LIMIT}),
            (Some("wait"), Some("query")) => json!({"minimum": 0}),
            (Some("after"), Some("query")) if is_text(parameter) => json!({"pattern": NAME}),
            (Some("If-Match"), Some("header")) => json!({"pattern": r#"^(\*|"[0-9]{1,19}"|)$"#}),
            (Some("reason"), Some("query")) => json!({"maxLength": MAX_REASON}),
            (Some("labels" | "fields"), Some("query")) => json!({"maxLength": MAX_SELECTOR, "pattern": SELECTOR}),
            _ => continue,
        };
        let bounds = bounds.as_object().cloned().unwrap_or_default();
        at(parameter, &["schema"]).extend(bounds);
    }
}
