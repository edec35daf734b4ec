//! The API as OpenAPI 3.1, made from the table that calls are dispatched by: what is not there is not answered.

use serde_json::{Map, Value, json};

use super::table::{Endpoint, Op, TABLE};
use crate::config::Collection;

/// The page.
#[must_use]
pub(super) fn page() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in TABLE {
        let all: Vec<(String, Option<Collection>)> = match endpoint.path.contains("{collection}") {
            true => Collection::ALL
                .iter()
                .map(|one| (endpoint.path.replace("{collection}", one.name()), Some(*one)))
                .collect(),
            false => vec![(endpoint.path.to_owned(), None)],
        };
        for (path, collection) in all {
            let operations = paths.entry(path.clone()).or_insert_with(|| json!({}));
            if let Some(operations) = operations.as_object_mut() {
                operations
                    .entry(endpoint.method.to_ascii_lowercase())
                    .or_insert_with(|| operation(endpoint, &path, collection));
            }
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "ngx-gateway",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Problem": {
                    "type": "object",
                    "required": ["type", "title", "status", "detail", "code"],
                    "properties": {
                        "type": {"type": "string"},
                        "title": {"type": "string"},
                        "status": {"type": "integer"},
                        "detail": {"type": "string"},
                        "code": {"type": "string"},
                        "errors": {"type": "array", "items": {
                            "type": "object",
                            "required": ["message"],
                            "properties": {
                                "line": {"type": "integer"},
                                "column": {"type": "integer"},
                                "path": {"type": "string"},
                                "message": {"type": "string"},
                            },
                        }},
                    },
                },
                "Page": {
                    "type": "object",
                    "required": ["items", "total", "next"],
                    "properties": {
                        "items": {"type": "array", "items": {"type": "object"}},
                        "total": {"type": "integer"},
                        "next": {"type": ["integer", "null"]},
                    },
                },
                "Written": {
                    "type": "object",
                    "required": ["revision", "changes", "changes_total", "warnings"],
                    "properties": {
                        "revision": {"type": "integer"},
                        "generation": {"type": "integer"},
                        "dry_run": {"type": "boolean"},
                        "changes": {"type": "array", "items": {"type": "object"}},
                        "changes_total": {"type": "integer"},
                        "warnings": {"type": "array", "items": {"type": "object"}},
                    },
                },
            },
        },
    })
}

fn operation(endpoint: &Endpoint, path: &str, collection: Option<Collection>) -> Value {
    let names = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = names
        .clone()
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}}))
        .collect();
    let mut more =
        |name: &str, place: &str, schema: Value| parameters.push(json!({"name": name, "in": place, "schema": schema}));
    match endpoint.op {
        Op::List => {
            more("limit", "query", json!({"type": "integer", "minimum": 1, "maximum": 1_000}));
            more("cursor", "query", json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}));
        }
        Op::Get | Op::Config => more("If-None-Match", "header", json!({"type": "string"})),
        Op::Put | Op::Patch | Op::Delete | Op::PutConfig | Op::Rollback | Op::Batch => {
            more("dry_run", "query", json!({"type": "boolean"}));
            if endpoint.op != Op::Batch {
                more("If-Match", "header", json!({"type": "string"}));
            }
        }
        _ => {}
    }
    let schema = match endpoint.op {
        Op::List => json!({"$ref": "#/components/schemas/Page"}),
        Op::Put | Op::Patch | Op::Delete | Op::PutConfig | Op::Rollback | Op::Batch => {
            json!({"$ref": "#/components/schemas/Written"})
        }
        _ => json!({"type": "object"}),
    };
    let problem = json!({
        "description": "A problem (RFC 9457)",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    });
    let good = json!({"description": "Done", "content": {"application/json": {"schema": schema}}});
    let mut responses = json!({"200": good.clone(), "4XX": problem.clone(), "5XX": problem});
    if let Some(responses) = responses.as_object_mut() {
        if endpoint.op == Op::Put {
            responses.insert("201".to_owned(), good);
        }
        if matches!(endpoint.op, Op::Get | Op::Config) {
            responses.insert("304".to_owned(), json!({"description": "As it was"}));
        }
    }
    let id: Vec<&str> = path.split(['/', '{', '}', '.']).filter(|part| !part.is_empty()).collect();
    let mut operation = json!({
        "operationId": format!("{}_{}", endpoint.method.to_ascii_lowercase(), id.join("_")),
        "summary": endpoint.summary,
        "tags": [collection.map_or("gateway", Collection::name)],
        "parameters": parameters,
        "responses": responses,
    });
    if let (Some(fields), false) = (operation.as_object_mut(), endpoint.takes.is_empty()) {
        let content: Map<String, Value> =
            endpoint.takes.iter().map(|kind| ((*kind).to_owned(), json!({"schema": {"type": "object"}}))).collect();
        fields.insert("requestBody".to_owned(), json!({"required": true, "content": content}));
    }
    operation
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{Call, table};

    #[test]
    fn every_operation_is_one_that_is_dispatched() {
        let page = page();
        let mut ids = Vec::new();
        for (path, operations) in page["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let kind =
                    operation["requestBody"]["content"].as_object().and_then(|kinds| kinds.keys().next().cloned());
                let call = Call {
                    method: method.to_ascii_uppercase(),
                    path: path.replace(['{', '}'], ""),
                    content_type: kind.unwrap_or_default(),
                    ..Call::default()
                };
                assert!(table::find(&call).is_ok(), "{method} {path}");
                ids.push(operation["operationId"].as_str().unwrap().to_owned());
            }
        }
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count, "names are told apart");
        assert!(count > TABLE.len());
    }
}
