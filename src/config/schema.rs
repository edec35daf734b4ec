//! The document's form as JSON Schema (2020-12), made from the tables that check it.
//!
//! What this version cannot do is not in it. The schema says less than the parser where a form is more than a pattern:
//! what it refuses the parser refuses, not the other way round.

mod words;

use serde_json::{Map, Value, json};

use super::shape::{Form, Resource, Shape};
use super::tables;

/// Resources that are defined once, by the name that `$defs` give them.
static DEFINED: &[(&str, &Resource)] = &[
    ("auth", &tables::AUTH),
    ("ban", &tables::BAN),
    ("basic", &tables::BASIC),
    ("breaker", &tables::BREAKER),
    ("cache", &tables::CACHE),
    ("cache-key", &tables::CACHE_KEY),
    ("cache-query", &tables::CACHE_QUERY),
    ("canary", &tables::CANARY),
    ("certificate", &tables::CERTIFICATE),
    ("claims", &tables::CLAIMS),
    ("consumer", &tables::CONSUMER),
    ("cors", &tables::CORS),
    ("health", &tables::HEALTH),
    ("jwks", &tables::JWKS),
    ("jwt", &tables::JWT),
    ("api_key", &tables::API_KEY),
    ("revocation", &tables::REVOCATION),
    ("key", &tables::KEY),
    ("limiter", &tables::LIMITER),
    ("list", &tables::LIST),
    ("match", &tables::MATCH),
    ("mirror", &tables::MIRROR),
    ("mtls", &tables::MTLS),
    ("node", &tables::NODE),
    ("outlier", &tables::OUTLIER),
    ("overload", &tables::OVERLOAD),
    ("passive", &tables::PASSIVE),
    ("overrides", &tables::OVERRIDES),
    ("permissions", &tables::PERMISSIONS),
    ("promote", &tables::PROMOTE),
    ("redirect", &tables::REDIRECT),
    ("reply", &tables::REPLY),
    ("fallback", &tables::FALLBACK),
    ("retries", &tables::RETRIES),
    ("role", &tables::ROLE),
    ("route", &tables::ROUTE),
    ("signature", &tables::SIGNATURE),
    ("signature-key", &tables::SIGNATURE_KEY),
    ("timeouts", &tables::TIMEOUTS),
    ("tls", &tables::TLS),
    ("upstream", &tables::UPSTREAM),
    ("variant", &tables::VARIANT),
];

/// The schema, as indented JSON that ends in a newline.
#[must_use]
pub fn schema() -> String {
    let mut defs = Map::new();
    for (name, resource) in DEFINED {
        defs.insert((*name).to_owned(), object(name, resource, false));
        // In the place of a name, and in `defaults`.
        if ["auth", "limiter", "route", "upstream"].contains(name) {
            defs.insert(format!("{name}-nameless"), object(name, resource, true));
        }
    }
    let mut root = object("document", &tables::DOCUMENT, false);
    if let Some(fields) = root.as_object_mut() {
        fields.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
        fields.insert("title".to_owned(), "ngx-gateway document".into());
        fields.insert("$defs".to_owned(), Value::Object(defs));
    }
    let mut text = serde_json::to_string_pretty(&root).unwrap_or_default();
    text.push('\n');
    text
}

fn object(name: &str, resource: &Resource, nameless: bool) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in resource.fields {
        if matches!(field.shape, Shape::Unbuilt) || nameless && field.name == "name" {
            continue;
        }
        let mut property = of(&field.shape);
        if let Some(fields) = property.as_object_mut() {
            let (description, default) = words::of(name, field.name);
            fields.insert("description".to_owned(), description.into());
            // Written as JSON; in `defaults` silence means that the route decides.
            if let Some(default) = default.filter(|_| !nameless).and_then(|text| serde_json::from_str(text).ok()) {
                fields.insert("default".to_owned(), default);
            }
        }
        properties.insert(field.name.to_owned(), property);
        if field.needed {
            required.push(field.name);
        }
    }
    let mut value = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if let Some(fields) = value.as_object_mut().filter(|_| !required.is_empty()) {
        fields.insert("required".to_owned(), required.into());
    }
    value
}

fn of(shape: &Shape) -> Value {
    match shape {
        Shape::Unbuilt => json!(false),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::OnlyFalse => json!({"const": false}),
        Shape::Integer { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
        Shape::IntegerOr(min, max, form) => {
            json!({"anyOf": [{"type": "integer", "minimum": min, "maximum": max}, text(form)]})
        }
        Shape::Duration { .. } => {
            json!({"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$", "examples": ["250ms", "10s", "5m"]})
        }
        Shape::Size { min } => json!({"anyOf": [
            {"type": "integer", "minimum": min},
            {"type": "string", "pattern": "^[0-9]+[kKmMgG]?$", "examples": ["64k", "10m"]}
        ]}),
        Shape::Lifetimes => {
            let duration = json!({"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$", "examples": ["10s", "5m"]});
            let names = json!({"pattern": "^([2-5][0-9][0-9]|any)$"});
            json!({"anyOf": [duration, {"type": "object", "propertyNames": names, "additionalProperties": duration}]})
        }
        Shape::Text(form) => text(form),
        Shape::Choice(built, _) => json!({"enum": built}),
        Shape::List(item, true) => json!({"type": "array", "items": of(item)}),
        Shape::List(item, false) => json!({"type": "array", "items": of(item), "minItems": 1}),
        Shape::Object(resource) => reference(resource, ""),
        Shape::ObjectOrFalse(resource) => json!({"anyOf": [{"const": false}, reference(resource, "")]}),
        Shape::Nameless(resource) => reference(resource, "-nameless"),
        Shape::NameOr(resource) => json!({"anyOf": [{"type": "string"}, reference(resource, "-nameless")]}),
        Shape::Labels => {
            json!({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "null"]}})
        }
        Shape::Headers | Shape::HeaderTexts(..) => {
            let names = json!({"pattern": "^[!#$%&'*+.^`|~0-9A-Za-z-]+$"});
            json!({"type": "object", "propertyNames": names, "additionalProperties": {"type": "string"}})
        }
        Shape::TextOrObject | Shape::Jwk => json!({"type": ["string", "object"]}),
        Shape::Secret => json!({"type": "string", "examples": ["$env://NAME", "$file:///path"]}),
        Shape::Secrets => json!({"anyOf": [of(&Shape::Secret), {"type": "array", "items": of(&Shape::Secret)}]}),
    }
}

fn reference(resource: &Resource, suffix: &str) -> Value {
    let name = DEFINED.iter().find(|(_, other)| std::ptr::eq(*other, resource)).map_or("", |(name, _)| *name);
    json!({"$ref": format!("#/$defs/{name}{suffix}")})
}

fn text(form: &Form) -> Value {
    let mut value = json!({"type": "string"});
    let Some(fields) = value.as_object_mut() else { return value };
    // What the form's own words quote are examples of it.
    let examples: Vec<&str> =
        form.words.split('`').skip(1).step_by(2).filter(|word| (form.check)(word).is_ok()).collect();
    if !examples.is_empty() {
        fields.insert("examples".to_owned(), examples.into());
    }
    let pattern = match form.words {
        words if words.starts_with("a rate") => "^[0-9]+r?/[smh]$",
        words if words.starts_with("a percentage of at most two decimals") => "^[0-9]+(\\.[0-9]{1,2})?%$",
        words if words.starts_with("a percentage") => "^[0-9]+(\\.[0-9])?%$",
        words if words.starts_with("the count in a header") => "^header:",
        words if words.starts_with("a path such") => "^[/~]",
        words if words.starts_with("an address or a block") => "^[0-9A-Fa-f:.]+(/[0-9]+)?$",
        words if words.starts_with("a time") => "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}",
        words if words.starts_with("an absolute path") => "^/",
        _ => return value,
    };
    fields.insert("pattern".to_owned(), pattern.into());
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_described() {
        let all = DEFINED.iter().copied().chain([("document", &tables::DOCUMENT)]);
        for (name, resource) in all {
            for field in resource.fields.iter().filter(|field| !matches!(field.shape, Shape::Unbuilt)) {
                let (description, default) = words::of(name, field.name);
                assert!(!description.is_empty(), "{name}.{} has no description", field.name);
                assert!(
                    default.is_none_or(|text| serde_json::from_str::<Value>(text).is_ok()),
                    "{name}.{}",
                    field.name
                );
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let text = schema();
        let schema: Value = serde_json::from_str(&text).unwrap();
        let names = text.split("\"#/$defs/").skip(1).map(|rest| rest.split('"').next().unwrap());
        for name in names {
            assert!(schema["$defs"].get(name).is_some(), "{name}");
        }
    }
}
