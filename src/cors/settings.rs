use rkyv::{Archive, Deserialize, Serialize};

/// Which origins a browser may let read the answers.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origins {
    /// `*`; not together with credentials.
    Any,
    /// These, as browsers write them (`https://app.example.com`, `https://*.example.com` for subdomains); lower case.
    These(Vec<String>),
}

/// A route's `cors`, checked.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cors {
    /// Who may.
    pub origins: Origins,
    /// Methods that a preflight allows; empty = those of the route.
    pub methods: Vec<String>,
    /// Request headers that a preflight allows, lower case; empty = those that are asked for.
    pub headers: Vec<String>,
    /// Response headers that scripts may read.
    pub expose: Vec<String>,
    /// Whether cookies and credentials go along.
    pub credentials: bool,
    /// How long a browser may keep a preflight's answer, seconds.
    pub max_age: u32,
}
