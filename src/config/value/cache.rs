use serde_json::{Map, Value};

use super::Fields;
use crate::cache::{ANY_STATUS, Cache, Query};

/// A route's `cache`.
pub(super) fn cache(cache: &Cache) -> Value {
    let mut fields = Fields::default();
    fields.put("zone", cache.zone.as_str());
    if !cache.ttl.is_empty() {
        let name = |status: u16| if status == ANY_STATUS { "any".to_owned() } else { status.to_string() };
        let entries = cache.ttl.iter().map(|(status, seconds)| (name(*status), format!("{seconds}s").into()));
        fields.put("ttl", Value::Object(entries.collect::<Map<_, _>>()));
    }
    let mut key = Fields::default();
    let mut query = Fields::default();
    match &cache.query {
        Query::All => {}
        Query::Allow(names) => query.texts("allow", names),
        Query::Deny(names) => query.texts("deny", names),
    }
    if !query.0.is_empty() {
        key.put("query", query.done());
    }
    key.texts("headers", &cache.headers);
    key.texts("cookies", &cache.cookies);
    if cache.shared {
        key.put("consumer", "shared");
    }
    if !key.0.is_empty() {
        fields.put("key", key.done());
    }
    match (cache.get, cache.head) {
        (true, true) => {}
        (true, false) => fields.list("methods", std::iter::once("GET".into())),
        (false, _) => fields.list("methods", std::iter::once("HEAD".into())),
    }
    for (name, seconds) in
        [("stale_while_revalidate", cache.stale_while_revalidate), ("stale_if_error", cache.stale_if_error)]
    {
        if seconds != 0 {
            fields.put(name, format!("{seconds}s"));
        }
    }
    fields.put("lock", format!("{}ms", cache.lock));
    fields.texts("tags", &cache.tags);
    fields.done()
}
