/// An HTTP method (RFC 9110); what is not among the known ones is `Other`, which keeps metric labels bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Method {
    Get = 0,
    Head,
    Post,
    Put,
    Delete,
    Patch,
    Options,
    Connect,
    Trace,
    Other,
}

impl Method {
    /// Every method, in the order of its number.
    pub const ALL: [Self; 10] = [
        Self::Get,
        Self::Head,
        Self::Post,
        Self::Put,
        Self::Delete,
        Self::Patch,
        Self::Options,
        Self::Connect,
        Self::Trace,
        Self::Other,
    ];

    /// Reads a method name; names are case-sensitive (RFC 9110, 9.1).
    #[must_use]
    pub fn parse(name: &[u8]) -> Self {
        Self::ALL.into_iter().find(|method| method.name().as_bytes() == name).unwrap_or(Self::Other)
    }

    /// The method with number `number`, `Other` beyond the last.
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Other)
    }

    /// The name as it stands in a request line; `OTHER` for the unknown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Patch => "PATCH",
            Self::Options => "OPTIONS",
            Self::Connect => "CONNECT",
            Self::Trace => "TRACE",
            Self::Other => "OTHER",
        }
    }

    /// Whether sending the request twice has the effect of sending it once (RFC 9110, 9.2.2).
    #[must_use]
    pub const fn is_idempotent(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Put | Self::Delete | Self::Options | Self::Trace)
    }
}

/// A set of methods, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Methods(pub u16);

impl Methods {
    /// Every method, known or not.
    pub const ANY: Self = Self(u16::MAX);
    /// No method.
    pub const NONE: Self = Self(0);

    /// This set and `method`.
    #[must_use]
    pub const fn with(self, method: Method) -> Self {
        Self(self.0 | 1 << method as u16)
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `method` is in the set.
    #[must_use]
    pub const fn contains(self, method: Method) -> bool {
        self.0 & 1 << method as u16 != 0
    }

    /// The members that have a name, in the order of [`Method::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Method> {
        Method::ALL.into_iter().filter(move |method| *method != Method::Other && self.contains(*method))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for method in Method::ALL {
            assert_eq!(Method::parse(method.name().as_bytes()), method);
            assert_eq!(Method::from_number(method as u8), method);
        }
        assert_eq!(Method::parse(b"get"), Method::Other, "case counts");
    }

    #[test]
    fn sets() {
        let set = Methods::NONE.with(Method::Get).with(Method::Post);
        assert!(set.contains(Method::Get) && !set.contains(Method::Put));
        assert_eq!(set.iter().collect::<Vec<_>>(), [Method::Get, Method::Post]);
        assert!(Methods::ANY.contains(Method::Other));
    }
}
