//! The description of the API for programs (OpenAPI 3.1), made from the table of routes and from the types
//! that requests and answers really have.

use axum::response::Response;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::answer;
use super::routes::{Method, PREFIX, Parameter, ROUTES, Read, Route};
use crate::command::{Command, Message, NAME_BYTES_MAX};
use crate::view::{SCHEMA, View};

/// What every text of a command but those of settings must be, as [`Command::check`] has it: a name without control
/// characters, in which a backslash begins an escape.
const NAME_PATTERN: &str = r"^(?:[^\u0000-\u001F\u007F-\u009F\\]|\\(?:[\\nt]|x[0-9A-Fa-f]{2}))+$";

/// The document.
pub fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    let commands = generator.root_schema_for::<Command>().to_value();
    let views = generator.root_schema_for::<View>().to_value();
    let error = generator.subschema_for::<Message>().to_value();
    let mut schemas: Map<String, Value> = generator.take_definitions(true);
    schemas.insert("Error".to_owned(), error_schema(&error));
    let mut paths = Map::new();
    for route in ROUTES {
        let operation = operation(route, &commands, &views);
        let path = paths
            .entry(format!("{PREFIX}{}", route.path))
            .or_insert_with(|| json!({}));
        path[route.method.text()] = operation;
    }
    for (path, about, content) in [
        (
            format!("{PREFIX}/stream"),
            "Everything that changes, as server-sent events: `beat` every few seconds, with the time there; `status`, `models`, `transfers` (rows that changed, keys of rows that are gone), `event`, and `hello` when all is to be asked for again.",
            "text/event-stream",
        ),
        (
            format!("{PREFIX}/events/stream"),
            "Events, as server-sent events; those after `since` or `Last-Event-ID` first.",
            "text/event-stream",
        ),
        (
            format!("{PREFIX}/proof"),
            "Shows that the door knows the token before one sends it: `proof` is HMAC-SHA256 of `nonce`, with the token as the key, in hex; `instance` differs after each start.",
            "application/json",
        ),
        (
            format!("{PREFIX}/openapi.json"),
            "This document.",
            "application/json",
        ),
        (
            "/health".to_owned(),
            "Whether the daemon answers.",
            "application/json",
        ),
        (
            "/readyz".to_owned(),
            "200 when the mount answers and is what is seen at its mount point.",
            "text/plain",
        ),
        ("/metrics".to_owned(), "Prometheus text.", "text/plain"),
    ] {
        let mut operation = json!({
            "summary": about,
            "security": [],
            "responses": {
                "200": { "description": "As said.", "content": { content: {} } },
                "default": refused(),
            },
        });
        if path.ends_with("/events/stream") {
            operation["parameters"] = json!([{
                "name": "since", "in": "query", "required": false, "schema": number_schema(),
            }]);
        }
        if path.ends_with("/proof") {
            operation["parameters"] = json!([{
                "name": "nonce", "in": "query", "required": true,
                "schema": { "type": "string", "pattern": "^[0-9A-Za-z]{16,128}$" },
            }]);
        }
        paths.insert(path, json!({ "get": operation }));
    }
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "speedloader",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The HTTP door of speedloader. Looking needs no token, but for the configuration, \
                            paths of files and waiting; every change, and asking what one would mean, needs `Authorization: Bearer TOKEN` (`speedloader web-url` shows it).",
            "license": { "name": "Apache-2.0 OR MIT" },
        },
        "servers": [{ "url": "http://127.0.0.1:5050" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    });
    unlink(&mut document);
    document
}

/// Takes the links of our own documentation out of descriptions: they lead nowhere here.
fn unlink(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(text)) = members.get_mut("description") {
                *text = text.replace("[`", "`").replace("`]", "`");
            }
            members.values_mut().for_each(unlink);
        }
        Value::Array(items) => items.iter_mut().for_each(unlink),
        _ => {}
    }
}

pub(super) async fn served() -> Response {
    answer::json(axum::http::StatusCode::OK, document().to_string())
}

/// The routes of each command, by the command's word: for the test that none is missing.
pub fn routes_of_commands() -> impl Iterator<Item = (&'static str, &'static Route)> {
    ROUTES.iter().map(|route| (route.command, route))
}

fn operation(route: &Route, commands: &Value, views: &Value) -> Value {
    let mut fields = variant(commands, "do", route.command);
    restrict(&mut fields);
    let mut parameters = Vec::new();
    for (place, known) in [("path", route.in_path), ("query", route.in_query)] {
        for parameter in known {
            let schema = take(&mut fields, parameter);
            parameters.push(json!({
                "name": parameter.name,
                "in": place,
                "required": !parameter.optional,
                "schema": schema,
            }));
        }
    }
    let mut responses = json!({
        "200": {
            "description": "It was carried out.",
            "content": { "application/json": { "schema": answer_schema(&variant(views, "view", route.view)) } },
        },
        "400": refused(),
        "404": refused(),
        "409": refused(),
        "default": refused(),
    });
    if route.needs_token {
        responses["401"] = refused();
    }
    let mut operation = json!({
        "operationId": route.command,
        "summary": route.about,
        "parameters": parameters,
        "responses": responses,
        "security": if route.needs_token { json!([{ "token": [] }]) } else { json!([]) },
    });
    let has_fields = fields["properties"]
        .as_object()
        .is_some_and(|fields| !fields.is_empty());
    if route.method == Method::Post && has_fields {
        let required = fields["required"]
            .as_array()
            .is_some_and(|names| !names.is_empty());
        operation["requestBody"] = json!({
            "required": required,
            "content": { "application/json": { "schema": fields } },
        });
    }
    operation
}

/// The variant of a tagged type, without its tag.
fn variant(schema: &Value, tag: &str, word: &str) -> Value {
    let variants = schema["oneOf"].as_array();
    let found = variants
        .into_iter()
        .flatten()
        .find(|variant| variant["properties"][tag]["const"] == word);
    let mut found = found.cloned().unwrap_or_else(|| json!({}));
    if let Some(properties) = found["properties"].as_object_mut() {
        properties.remove(tag);
    }
    if let Some(required) = found["required"].as_array_mut() {
        required.retain(|name| name != tag);
    }
    found
}

/// Says of a command's fields what their types do not: which texts are names, and that a list that is wanted has items.
fn restrict(fields: &mut Value) {
    let required = fields["required"].clone();
    let is_required = |name: &str| {
        let names = required.as_array();
        names.is_some_and(|names| names.iter().any(|one| one == name))
    };
    let Some(properties) = fields["properties"].as_object_mut() else {
        return;
    };
    for (name, mut field) in properties {
        if field["type"] == "array" {
            if is_required(name) {
                field["minItems"] = json!(1);
            }
            field = &mut field["items"];
        }
        if field["type"] == "string" || field["type"] == json!(["string", "null"]) {
            field["minLength"] = json!(1);
            field["maxLength"] = json!(NAME_BYTES_MAX);
            field["pattern"] = json!(NAME_PATTERN);
        }
    }
}

/// Takes a field out of a command's: it is a parameter.
fn take(fields: &mut Value, parameter: &Parameter) -> Value {
    let field = match parameter.read {
        Read::Texts(field) => field,
        Read::Text | Read::Number => parameter.name,
    };
    let own = fields["properties"]
        .as_object_mut()
        .and_then(|properties| properties.remove(field));
    if let Some(required) = fields["required"].as_array_mut() {
        required.retain(|name| name != field);
    }
    match parameter.read {
        Read::Number => number_schema(),
        // In a query a list is the parameter again and again, as OpenAPI takes it if nothing is said.
        Read::Texts(_) => {
            let mut schema = own.unwrap_or_else(|| json!({}));
            if let Some(schema) = schema.as_object_mut() {
                schema.remove("default");
            }
            schema
        }
        Read::Text => {
            let mut schema = own.unwrap_or_else(|| json!({}));
            // A parameter is there or not; it is never null.
            schema["type"] = json!("string");
            if let Some(schema) = schema.as_object_mut() {
                schema.remove("default");
            }
            schema
        }
    }
}

fn number_schema() -> Value {
    json!({ "type": "integer", "minimum": 0, "maximum": u64::MAX })
}

fn answer_schema(view: &Value) -> Value {
    let mut schema = view.clone();
    schema["properties"]["schema"] = json!({ "type": "integer", "const": SCHEMA });
    schema["properties"]["view"] = json!({ "type": "string" });
    schema
}

fn error_schema(message: &Value) -> Value {
    json!({
        "type": "object",
        "required": ["schema", "error"],
        "properties": { "schema": { "const": SCHEMA }, "error": message },
    })
}

fn refused() -> Value {
    json!({
        "description": "It was not carried out.",
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
    })
}
