/// Why a request was refused: a stable code, the status it answers with, and words for a person.
///
/// The client sees `public`, `status`, `title` and `detail`; the log sees `code`. Where the precise reason would
/// help an attacker, several codes share one public face.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Reason {
    RouteNone = 1,
    RouteMethod,
    PathRefused,
    RequestMalformed,
    ProtocolRefused,
    AuthMissing,
    AuthMalformed,
    AuthAlgorithm,
    AuthKeyUnknown,
    AuthSignature,
    AuthExpired,
    AuthNotYet,
    AuthClaims,
    PermissionMissing,
    LimitExceeded,
    LimitTableFull,
    BreakerOpen,
    UpstreamNone,
    UpstreamGone,
    PolicyNone,
    Internal,
    AccessBanned,
    AccessDenied,
    AuthConsumer,
    AuthRevoked,
    AuthKeysUnavailable,
    AuthCertificate,
    AuthPassword,
    AuthBusy,
    AuthReplay,
    AuthDigest,
    AuthNonceStore,
    BodyDigest,
    LimitInFlight,
    OverloadShed,
    BodyTooLarge,
    LocationUnknown,
    LimitCost,
    LimitNever,
    UpstreamBusy,
    RouteGone,
    UpstreamFailed,
    UpstreamTimeout,
}

impl Reason {
    /// Every reason, for tables and tests.
    pub const ALL: &[Self] = &[
        Self::RouteNone,
        Self::RouteMethod,
        Self::PathRefused,
        Self::RequestMalformed,
        Self::ProtocolRefused,
        Self::AuthMissing,
        Self::AuthMalformed,
        Self::AuthAlgorithm,
        Self::AuthKeyUnknown,
        Self::AuthSignature,
        Self::AuthExpired,
        Self::AuthNotYet,
        Self::AuthClaims,
        Self::PermissionMissing,
        Self::LimitExceeded,
        Self::LimitTableFull,
        Self::BreakerOpen,
        Self::UpstreamNone,
        Self::UpstreamGone,
        Self::PolicyNone,
        Self::Internal,
        Self::AccessBanned,
        Self::AccessDenied,
        Self::AuthConsumer,
        Self::AuthRevoked,
        Self::AuthKeysUnavailable,
        Self::AuthCertificate,
        Self::AuthPassword,
        Self::AuthBusy,
        Self::AuthReplay,
        Self::AuthDigest,
        Self::AuthNonceStore,
        Self::BodyDigest,
        Self::LimitInFlight,
        Self::OverloadShed,
        Self::BodyTooLarge,
        Self::LocationUnknown,
        Self::LimitCost,
        Self::LimitNever,
        Self::UpstreamBusy,
        Self::RouteGone,
        Self::UpstreamFailed,
        Self::UpstreamTimeout,
    ];

    /// The precise code, for the log and `$gateway_reason`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::RouteNone => "route.none",
            Self::RouteMethod => "route.method",
            Self::PathRefused => "path.refused",
            Self::RequestMalformed => "request.malformed",
            Self::ProtocolRefused => "route.protocol",
            Self::AuthMissing => "auth.missing",
            Self::AuthMalformed => "auth.malformed",
            Self::AuthAlgorithm => "auth.algorithm",
            Self::AuthKeyUnknown => "auth.key_unknown",
            Self::AuthSignature => "auth.signature",
            Self::AuthExpired => "auth.expired",
            Self::AuthNotYet => "auth.not_yet",
            Self::AuthClaims => "auth.claims",
            Self::PermissionMissing => "permission.missing",
            Self::LimitExceeded => "limit.exceeded",
            Self::LimitTableFull => "limit.table_full",
            Self::BreakerOpen => "breaker.open",
            Self::UpstreamNone => "upstream.none",
            Self::UpstreamGone => "upstream.gone",
            Self::UpstreamFailed => "upstream.failed",
            Self::UpstreamTimeout => "upstream.timeout",
            Self::PolicyNone => "policy.none",
            Self::Internal => "internal",
            Self::AccessBanned => "access.banned",
            Self::AccessDenied => "access.denied",
            Self::AuthConsumer => "auth.consumer",
            Self::AuthRevoked => "auth.revoked",
            Self::AuthKeysUnavailable => "auth.keys_unavailable",
            Self::AuthCertificate => "auth.certificate",
            Self::AuthPassword => "auth.password",
            Self::AuthBusy => "auth.busy",
            Self::AuthReplay => "auth.replay",
            Self::AuthDigest => "auth.digest",
            Self::AuthNonceStore => "auth.nonce_store",
            Self::BodyDigest => "body.digest",
            Self::LimitInFlight => "limit.in_flight",
            Self::OverloadShed => "overload.shed",
            Self::BodyTooLarge => "body.too_large",
            Self::LocationUnknown => "location.unknown",
            Self::LimitCost => "limit.cost",
            Self::LimitNever => "limit.never",
            Self::UpstreamBusy => "upstream.busy",
            Self::RouteGone => "route.gone",
        }
    }

    /// The code that the client is told.
    #[must_use]
    pub const fn public(self) -> &'static str {
        match self {
            Self::AuthMalformed
            | Self::AuthAlgorithm
            | Self::AuthKeyUnknown
            | Self::AuthSignature
            | Self::AuthExpired
            | Self::AuthNotYet
            | Self::AuthClaims
            | Self::AuthConsumer
            | Self::AuthRevoked
            | Self::AuthCertificate
            | Self::AuthPassword
            | Self::AuthReplay
            | Self::AuthDigest => "auth.invalid",
            Self::AccessBanned => "access.denied",
            other => other.code(),
        }
    }

    /// The HTTP status of the answer.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::PathRefused | Self::RequestMalformed | Self::BodyDigest | Self::LimitCost => 400,
            Self::AuthMissing
            | Self::AuthMalformed
            | Self::AuthAlgorithm
            | Self::AuthKeyUnknown
            | Self::AuthSignature
            | Self::AuthExpired
            | Self::AuthNotYet
            | Self::AuthClaims
            | Self::AuthConsumer
            | Self::AuthRevoked
            | Self::AuthCertificate
            | Self::AuthPassword
            | Self::AuthReplay
            | Self::AuthDigest => 401,
            Self::PermissionMissing | Self::ProtocolRefused | Self::AccessBanned | Self::AccessDenied => 403,
            Self::RouteNone => 404,
            Self::RouteMethod => 405,
            Self::BodyTooLarge => 413,
            Self::LimitExceeded | Self::LimitNever => 429,
            Self::Internal | Self::LocationUnknown => 500,
            Self::UpstreamFailed => 502,
            Self::UpstreamTimeout => 504,
            Self::LimitTableFull
            | Self::LimitInFlight
            | Self::OverloadShed
            | Self::BreakerOpen
            | Self::UpstreamNone
            | Self::UpstreamGone
            | Self::UpstreamBusy
            | Self::PolicyNone
            | Self::AuthKeysUnavailable
            | Self::AuthBusy
            | Self::AuthNonceStore
            | Self::RouteGone => 503,
        }
    }

    /// The status in words (RFC 9110, 15).
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self.status() {
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            413 => "Content Too Large",
            429 => "Too Many Requests",
            502 => "Bad Gateway",
            503 => "Service Unavailable",
            504 => "Gateway Timeout",
            _ => "Internal Server Error",
        }
    }

    /// The gRPC status that says the same, as a number in text.
    #[must_use]
    pub const fn grpc_status(self) -> &'static str {
        match self.status() {
            400 => "3",        // INVALID_ARGUMENT
            401 => "16",       // UNAUTHENTICATED
            403 => "7",        // PERMISSION_DENIED
            404 | 405 => "12", // UNIMPLEMENTED
            413 | 429 => "8",  // RESOURCE_EXHAUSTED
            502 | 503 => "14", // UNAVAILABLE
            504 => "4",        // DEADLINE_EXCEEDED
            _ => "13",         // INTERNAL
        }
    }

    /// A sentence for the person at the other end; it says nothing that helps to get past the refusal.
    #[must_use]
    pub const fn detail(self) -> &'static str {
        match self {
            Self::RouteNone => "No route matches this request.",
            Self::RouteMethod => "This resource does not accept the request's method.",
            Self::PathRefused => "The request path is not acceptable.",
            Self::RequestMalformed => "The request is malformed.",
            Self::ProtocolRefused => "This resource does not speak the request's protocol.",
            Self::AuthMissing => "Credentials are required.",
            Self::AuthMalformed
            | Self::AuthAlgorithm
            | Self::AuthKeyUnknown
            | Self::AuthSignature
            | Self::AuthExpired
            | Self::AuthNotYet
            | Self::AuthClaims
            | Self::AuthConsumer
            | Self::AuthRevoked
            | Self::AuthCertificate
            | Self::AuthPassword
            | Self::AuthReplay
            | Self::AuthDigest => "The credentials are not valid.",
            Self::AuthNonceStore => "The credentials cannot be checked at the moment.",
            Self::BodyDigest => "The request body is not the one that was signed.",
            Self::AuthKeysUnavailable => "Credentials cannot be checked at the moment; see Retry-After.",
            Self::PermissionMissing => "The credentials do not permit this request.",
            Self::LimitExceeded => "Too many requests; see Retry-After.",
            Self::LimitTableFull => "Too many clients at once; see Retry-After.",
            Self::LimitCost => "The header that says what the request costs holds no whole number.",
            Self::LimitNever => "The request costs more than its limit ever allows.",
            Self::LimitInFlight => "Too many requests at once; see Retry-After.",
            Self::OverloadShed => "The service behind this resource is overloaded; see Retry-After.",
            Self::BreakerOpen => "The service behind this resource is failing; see Retry-After.",
            Self::UpstreamNone => "No server is available for this resource.",
            Self::UpstreamGone => "The service behind this resource was removed.",
            Self::UpstreamBusy => "The servers for this resource are busy; see Retry-After.",
            Self::RouteGone => "The policy of this resource was removed.",
            Self::UpstreamFailed => "The service behind this resource does not answer.",
            Self::UpstreamTimeout => "The service behind this resource takes too long.",
            Self::AuthBusy => "Too many logins at once; see Retry-After.",
            Self::PolicyNone => "The gateway has no configuration yet.",
            Self::BodyTooLarge => "The request body is too large for this resource.",
            Self::Internal | Self::LocationUnknown => "The gateway failed.",
            Self::AccessBanned | Self::AccessDenied => "Access from this address is not allowed.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_listed_once_and_none_tells_why_a_token_failed() {
        for (index, reason) in Reason::ALL.iter().copied().enumerate() {
            assert_eq!(reason as usize, index + 1);
            if reason.status() == 401 && reason != Reason::AuthMissing {
                assert_eq!(reason.public(), "auth.invalid");
                assert_eq!(reason.detail(), Reason::AuthSignature.detail());
            }
        }
    }
}
