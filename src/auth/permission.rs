//! Permissions: names of segments joined by colons, `orders:items:read`.
//!
//! In what is granted, a segment `*` stands for exactly one segment, and `**` at the end for one or more. Any other
//! star makes a granted name match nothing, and there is no negation. What a route requires holds no wildcard, so
//! nobody requires less than they meant to.

use std::fmt;

use rkyv::{Archive, Deserialize, Serialize};

/// What a route requires of whoever calls it.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// Every one of them, or any one.
    pub all: bool,
    /// The permissions; checked by [`Requirement::new`].
    pub required: Vec<String>,
}

/// What is wrong with a permission.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PermissionError {
    /// The list requires nothing; leave it out instead.
    NothingRequired,
    /// The permission, or a segment of it, is empty.
    Empty(String),
    /// A wildcard where a route requires.
    WildcardRequired(String),
    /// A `*` that is not a whole segment, or a `**` that is not the last.
    Wildcard(String),
    /// A character other than visible ASCII.
    Character(String),
}

impl fmt::Display for PermissionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingRequired => write!(f, "an empty list of permissions"),
            Self::Empty(name) => write!(f, "permission {name:?} has an empty segment"),
            Self::WildcardRequired(name) => write!(f, "required permission {name:?} holds a wildcard"),
            Self::Wildcard(name) => {
                write!(f, "permission {name:?}: `*` is a whole segment, `**` the last one")
            }
            Self::Character(name) => write!(f, "permission {name:?} holds a character that is not visible ASCII"),
        }
    }
}

impl std::error::Error for PermissionError {}

impl Requirement {
    /// Checks what a route requires.
    ///
    /// # Errors
    /// The first permission that cannot be required.
    pub fn new(all: bool, required: Vec<String>) -> Result<Self, PermissionError> {
        if required.is_empty() {
            return Err(PermissionError::NothingRequired);
        }
        for name in &required {
            check_letters(name)?;
            if name.contains('*') {
                return Err(PermissionError::WildcardRequired(name.clone()));
            }
        }
        Ok(Self { all, required })
    }
}

/// Checks a permission that the document grants (roles, consumers); what tokens grant is not checked but matches
/// nothing where it is wrong.
///
/// # Errors
/// What is wrong with it.
pub fn check_granted(name: &str) -> Result<(), PermissionError> {
    check_letters(name)?;
    let mut segments = name.split(':').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "*" => {}
            "**" if segments.peek().is_none() => {}
            segment if segment.contains('*') => return Err(PermissionError::Wildcard(name.to_owned())),
            _ => {}
        }
    }
    Ok(())
}

fn check_letters(name: &str) -> Result<(), PermissionError> {
    if name.split(':').any(str::is_empty) {
        return Err(PermissionError::Empty(name.to_owned()));
    }
    match name.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(()),
        false => Err(PermissionError::Character(name.to_owned())),
    }
}

/// Whether `granted` holds what is required: one permission of it, or all.
#[inline]
pub fn allows<'a>(granted: impl Iterator<Item = &'a str> + Clone, requirement: &ArchivedRequirement) -> bool {
    holds(requirement, |required| granted.clone().any(|granted| matches(granted, required)))
}

/// Whether `covered` says yes to what is required: to one permission of it, or to all.
#[inline]
pub fn holds(requirement: &ArchivedRequirement, covered: impl Fn(&str) -> bool) -> bool {
    let mut required = requirement.required.iter().map(|name| name.as_str());
    match requirement.all {
        // `all` of nothing is true, and a requirement of nothing lets nobody in.
        true => !requirement.required.is_empty() && required.all(covered),
        false => required.any(covered),
    }
}

/// Whether the permission `granted`, which may hold wildcards, covers `required`, which holds none.
///
/// A required name with a star or an empty segment is covered by nothing; that is found on the way, since whatever is
/// covered is walked to its end.
#[inline]
#[must_use]
pub fn matches(granted: &str, required: &str) -> bool {
    let (mut grant, mut need) = (granted.as_bytes(), required.as_bytes());
    // Whether both stand at the beginning of a segment.
    let mut begins = true;
    loop {
        (grant, need) = match (grant, need) {
            ([a, grants @ ..], [b, needs @ ..]) if a == b && *a != b'*' => {
                if *a == b':' && begins {
                    return false;
                }
                begins = *a == b':';
                (grants, needs)
            }
            ([b'*', b'*'], _) if begins => return is_concrete(need),
            ([b'*', grants @ ..], [_, ..]) if begins && matches!(grants, [] | [b':', ..]) => {
                begins = false;
                match behind_segment(need) {
                    Some(needs) => (grants, needs),
                    None => return false,
                }
            }
            ([], []) => return !begins,
            _ => return false,
        }
    }
}

/// What stands behind the segment with which `name` begins; `None` where it is empty or holds a star.
#[inline]
fn behind_segment(name: &[u8]) -> Option<&[u8]> {
    let mut rest = name;
    while let [byte, behind @ ..] = rest
        && *byte != b':'
    {
        if *byte == b'*' {
            return None;
        }
        rest = behind;
    }
    (rest.len() < name.len()).then_some(rest)
}

/// Whether `name` has neither stars nor empty segments.
fn is_concrete(name: &[u8]) -> bool {
    !name.contains(&b'*') && !name.split(|byte| *byte == b':').any(<[u8]>::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        for (granted, required, expected) in [
            ("a:b", "a:b", true),
            ("a", "a", true),
            ("a:*", "a:b", true),
            ("a:*", "a", false),
            ("a:*", "a:b:c", false),
            ("*", "a", true),
            ("*", "a:b", false),
            ("**", "a", true),
            ("**", "a:b:c", true),
            ("a:**", "a:b:c", true),
            ("a:**", "a", false),
            ("a:**", "ab:c", false),
            ("a:**:c", "a:b:c", false),
            ("*:b:**", "x:b:c:d", true),
            ("a:b*", "a:bc", false),
            ("***", "a", false),
            ("a:**", "a:", false),
            ("a:**", "a:b::c", false),
            ("*", "*", false),
            ("**", "a:*", false),
            ("", "", false),
            (":", ":", false),
            ("a:", "a:", false),
            ("a:b:", "a:b", false),
            ("A:b", "a:b", false),
        ] {
            assert_eq!(matches(granted, required), expected, "{granted} covers {required}");
        }
    }

    /// The definition, segment by segment, for every pair of short names.
    #[test]
    fn agrees_with_the_definition() {
        fn covers(granted: &[&str], required: &[&str]) -> bool {
            match (granted, required) {
                ([], []) => true,
                (["**"], [_, ..]) => true,
                (["*", granted @ ..], [_, required @ ..]) => covers(granted, required),
                ([grant, granted @ ..], [need, required @ ..]) => grant == need && covers(granted, required),
                _ => false,
            }
        }
        let mut names = vec![String::new()];
        for at in 0.. {
            if names[at].len() == 5 {
                break;
            }
            for letter in ["a", "b", ":", "*"] {
                names.push(format!("{}{letter}", names[at]));
            }
        }
        for granted in &names {
            for required in &names {
                let needs: Vec<&str> = required.split(':').collect();
                let sound = needs.iter().all(|need| !need.is_empty() && !need.contains('*'));
                let expected = sound && covers(&granted.split(':').collect::<Vec<_>>(), &needs);
                assert_eq!(matches(granted, required), expected, "{granted} covers {required}");
            }
        }
    }

    #[test]
    fn any_and_all() {
        let allows = |all, granted: &[&str], required: &[&str]| {
            let requirement = Requirement { all, required: required.iter().map(|&name| name.to_owned()).collect() };
            let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&requirement).unwrap();
            let archived = rkyv::access::<ArchivedRequirement, rkyv::rancor::Error>(&bytes).unwrap();
            super::allows(granted.iter().copied(), archived)
        };
        assert!(allows(false, &["a:x"], &["b", "a:x"]) && !allows(true, &["a:x"], &["b", "a:x"]));
        assert!(allows(true, &["a:*", "b"], &["b", "a:x"]));
        assert!(!allows(true, &["**"], &[]) && !allows(false, &["**"], &[]));
        assert!(!allows(true, &[], &["a"]) && !allows(false, &[], &["a"]));
    }

    #[test]
    fn checks_at_load() {
        let new = |names: &[&str]| Requirement::new(true, names.iter().map(|&name| name.to_owned()).collect()).err();
        assert_eq!(new(&["a:b", "c"]), None);
        assert_eq!(new(&[]), Some(PermissionError::NothingRequired));
        assert_eq!(new(&["a", ""]), Some(PermissionError::Empty(String::new())));
        assert_eq!(new(&["a:"]), Some(PermissionError::Empty("a:".into())));
        assert_eq!(new(&["a:*"]), Some(PermissionError::WildcardRequired("a:*".into())));
        assert_eq!(new(&["a b"]), Some(PermissionError::Character("a b".into())));
        assert_eq!(new(&["ａ"]), Some(PermissionError::Character("ａ".into())));
        assert!(check_granted("a:*:b:**").is_ok() && check_granted("a:**:b").is_err() && check_granted("a*").is_err());
    }
}
