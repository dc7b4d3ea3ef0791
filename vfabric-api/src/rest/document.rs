//! What the OpenAPI document says beyond what each handler says of itself: the shape of values that are parsed by rules of
//! their own, errors, and which role an operation needs.

use axum::http::Method;
use serde_json::{Map, Value, json};

use super::operation::Operations;
use super::{MAX_REASON, PAGE_LIMIT};
use crate::access::Needs;
use crate::ident::Vni;

/// Methods of OpenAPI that this API has.
const METHODS: [Method; 5] = [Method::GET, Method::PUT, Method::POST, Method::PATCH, Method::DELETE];

/// The rule of [`crate::ident::Name`].
const NAME: &str = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";

/// Completes the document.
pub(super) fn complete(document: &mut Value) {
    let operations = Operations::new();
    let schemas = at(document, &["components", "schemas"]);
    for (name, rules) in values() {
        if let Some(schema) = schemas.get_mut(name).and_then(Value::as_object_mut) {
            schema.extend(rules);
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
            at(operation, &["responses"]).insert("default".into(), problem());
            parameters(operation);
        }
    }
}

/// The object at a path; made where there is none.
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
        "description": "What went wrong, with the fields that are wrong",
        "content": {"application/problem+json": {"schema": schema}},
    })
}

fn rules(rules: Value) -> Map<String, Value> {
    rules.as_object().cloned().unwrap_or_default()
}

/// What attributes of fields cannot say; each with where it stands in the document.
fn nested() -> Vec<(&'static str, Map<String, Value>)> {
    vec![(
        "/components/schemas/Place/oneOf/0/properties/host/properties/interface",
        rules(json!({"not": {"enum": ["lo", "all", "default"]}})),
    )]
}

/// Values that a rule of their own parses, as that rule says.
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
    ]
}

/// Whether a parameter is a text (`after` of the watch is a number).
fn is_text(parameter: &Value) -> bool {
    let kind = &parameter["schema"]["type"];
    *kind == "string" || kind.as_array().is_some_and(|kinds| kinds.iter().any(|k| k == "string"))
}

/// Bounds of what a query or header may say.
fn parameters(operation: &mut Value) {
    let Some(parameters) = operation.get_mut("parameters").and_then(Value::as_array_mut) else {
        return;
    };
    for parameter in parameters {
        let bounds = match (parameter["name"].as_str(), parameter["in"].as_str()) {
            (Some("limit"), Some("query")) => json!({"minimum": 1, "maximum": PAGE_LIMIT}),
            (Some("wait"), Some("query")) => json!({"minimum": 0}),
            (Some("after"), Some("query")) if is_text(parameter) => json!({"pattern": NAME}),
            (Some("If-Match"), Some("header")) => json!({"pattern": r#"^("[0-9]+"|\*)$"#}),
            (Some("reason"), Some("query")) => json!({"maxLength": MAX_REASON}),
            _ => continue,
        };
        let bounds = bounds.as_object().cloned().unwrap_or_default();
        at(parameter, &["schema"]).extend(bounds);
    }
}
