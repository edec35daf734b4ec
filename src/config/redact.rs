//! Secrets in a document that is a value and not yet checked: hidden where it is shown, kept where it comes back.
//!
//! The tables say which fields hold one. A reference (`$env://NAME`, `$file:///path`) is no secret and stays; anything
//! else in such a field is shown as [`HIDDEN`]. Who reads a document, changes something else and writes it back writes
//! [`HIDDEN`] too: that stands for what was there.

use serde_json::Value;

use super::shape::{Resource, Shape};
use super::tables;

/// What is shown in the place of a secret.
pub const HIDDEN: &str = "(set)";

/// Hides the secrets of a whole document.
pub fn redact(document: &mut Value) {
    hide(document, &Shape::Object(&tables::DOCUMENT));
}

/// Hides the secrets of one resource.
pub fn redact_resource(value: &mut Value, resource: &'static Resource) {
    hide(value, &Shape::Object(resource));
}

/// Puts the secrets of `old` where `new`, a resource of the same kind and name, hides one.
///
/// # Errors
/// The path of the first field that hides a secret which there is not.
pub fn restore_resource(new: &mut Value, old: Option<&Value>, resource: &'static Resource) -> Result<(), String> {
    restore(new, old, &Shape::Object(resource), &mut String::new())
}

/// The same for whole documents; the entries of their lists are compared by name.
///
/// # Errors
/// As [`restore_resource`].
pub fn restore_document(new: &mut Value, old: Option<&Value>) -> Result<(), String> {
    restore(new, old, &Shape::Object(&tables::DOCUMENT), &mut String::new())
}

fn is_reference(text: &str) -> bool {
    text.starts_with("$env://") || text.starts_with("$file://")
}

/// Whether the field holds the hashes of passwords by user.
fn has_hashes(resource: &Resource, field: &str) -> bool {
    std::ptr::eq(resource, &raw const tables::BASIC) && field == "users"
}

fn hide(value: &mut Value, shape: &Shape) {
    match (shape, value) {
        (Shape::Secret | Shape::Secrets | Shape::Jwk, Value::Array(items)) => {
            items.iter_mut().for_each(|item| hide(item, &Shape::Secret));
        }
        (Shape::Secret | Shape::Secrets | Shape::Jwk, value) if !value.as_str().is_some_and(is_reference) => {
            *value = HIDDEN.into();
        }
        (Shape::List(item, _), Value::Array(items)) => items.iter_mut().for_each(|value| hide(value, item)),
        (
            Shape::Object(resource)
            | Shape::ObjectOrFalse(resource)
            | Shape::Nameless(resource)
            | Shape::NameOr(resource),
            Value::Object(fields),
        ) => {
            for field in resource.fields {
                match fields.get_mut(field.name) {
                    Some(Value::Object(users)) if has_hashes(resource, field.name) => {
                        users.values_mut().for_each(|hash| hide(hash, &Shape::Secret));
                    }
                    Some(value) => hide(value, &field.shape),
                    None => {}
                }
            }
        }
        _ => {}
    }
}

fn restore(new: &mut Value, old: Option<&Value>, shape: &Shape, path: &mut String) -> Result<(), String> {
    let length = path.len();
    match (shape, new) {
        (Shape::Secret | Shape::Secrets | Shape::Jwk, Value::Array(items)) => {
            for (index, item) in items.iter_mut().enumerate() {
                let old = old.and_then(Value::as_array).and_then(|old| old.get(index));
                path.push_str(&format!("[{index}]"));
                restore(item, old, &Shape::Secret, path)?;
                path.truncate(length);
            }
        }
        (Shape::Secret | Shape::Secrets | Shape::Jwk, value) if value.as_str() == Some(HIDDEN) => match old {
            Some(old) if old.as_str() != Some(HIDDEN) => *value = old.clone(),
            _ => return Err(path.clone()),
        },
        (Shape::List(item, _), Value::Array(items)) => {
            for (index, value) in items.iter_mut().enumerate() {
                let old = counterpart(value, index, old);
                path.push_str(&format!("[{index}]"));
                restore(value, old, item, path)?;
                path.truncate(length);
            }
        }
        (
            Shape::Object(resource)
            | Shape::ObjectOrFalse(resource)
            | Shape::Nameless(resource)
            | Shape::NameOr(resource),
            Value::Object(fields),
        ) => {
            for field in resource.fields {
                if let Some(value) = fields.get_mut(field.name) {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(field.name);
                    let old = old.and_then(|old| old.get(field.name));
                    match value {
                        Value::Object(users) if has_hashes(resource, field.name) => {
                            for (user, hash) in users {
                                restore(hash, old.and_then(|old| old.get(user)), &Shape::Secret, path)?;
                            }
                        }
                        value => restore(value, old, &field.shape, path)?,
                    }
                    path.truncate(length);
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// The entry of `old` that `value`, at `index` of the new list, stands for: that of its name or `kid`, else that of the
/// same place where neither has one.
fn counterpart<'o>(value: &Value, index: usize, old: Option<&'o Value>) -> Option<&'o Value> {
    let old = old?.as_array()?;
    for key in ["name", "kid", "keyid"] {
        if let Some(name) = value.get(key) {
            return old.iter().find(|other| other.get(key) == Some(name));
        }
    }
    old.get(index).filter(|other| ["name", "kid", "keyid"].iter().all(|key| other.get(key).is_none()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(secret: &str, more: &str) -> Value {
        json!({
            "version": 1,
            "auth": [
                {"name": "a", "jwt": {"issuer": "i", "audience": "x", "keys": [
                    {"alg": "HS256", "kid": "1", "secret": secret}, {"alg": "HS256", "secret": "$env://KEY"}]}},
            ],
            "roles": [{"name": "n", "permissions": ["a"]}],
            "consumers": [{"name": "c", "api_key": ["sha256:abc", more]}],
            "routes": [{"name": "r", "paths": ["/*"], "auth": [{"jwt": {"keys": [{"alg": "HS256", "secret": secret}]}},
                {"basic": {"users": {"ann": "$2y$05$s3cret"}}}]}],
        })
    }

    #[test]
    fn secrets_are_hidden_and_come_back() {
        let old = document("s3cret-value", "$file:///key");
        let mut shown = old.clone();
        redact(&mut shown);
        let text = shown.to_string();
        assert!(!text.contains("s3cret") && !text.contains("sha256:abc"), "{text}");
        assert!(text.contains("$env://KEY") && text.contains("$file:///key"), "{text}");
        let mut back = shown.clone();
        restore_document(&mut back, Some(&old)).unwrap();
        assert_eq!(back, old);
    }

    #[test]
    fn what_there_was_not_does_not_come_back() {
        let old = document("s3cret-value", "$file:///key");
        let mut other = document("(set)", "$file:///key");
        *other.pointer_mut("/auth/0/jwt/keys/0/kid").unwrap() = "2".into();
        assert_eq!(restore_document(&mut other, Some(&old)).unwrap_err(), "auth[0].jwt.keys[0].secret");
        assert_eq!(restore_document(&mut document("(set)", "a"), None).unwrap_err(), "auth[0].jwt.keys[0].secret");
    }
}
