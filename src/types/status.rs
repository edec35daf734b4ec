//! HTTP statuses of errors in the words of RFC 9110 and of gRPC.

/// The status in words (RFC 9110, 15, and RFC 6585); what has none is named by its class.
#[must_use]
pub const fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ if status < 500 => "Client Error",
        _ => "Server Error",
    }
}

/// A sentence for the person at the other end, where nothing is known but the status.
#[must_use]
pub const fn detail(status: u16) -> &'static str {
    match status {
        400 => "The request is malformed.",
        401 => "Credentials are required.",
        403 => "Access is not allowed.",
        404 | 410 => "There is nothing at this address.",
        405 => "This resource does not accept the request's method.",
        408 => "The request took too long to arrive.",
        411 => "The request does not say how long its body is.",
        412 => "A condition that the request makes does not hold.",
        413 => "The request body is too large.",
        414 => "The request target is too long.",
        415 => "This resource does not take a body of this type.",
        416 => "This resource does not have the range that was asked for.",
        421 => "This server does not answer for the request's host.",
        429 => "Too many requests.",
        431 => "The request header is too large.",
        501 => "The server does not know how to do this.",
        502 => "The service behind this resource does not answer.",
        503 => "The service is not available at the moment.",
        504 => "The service behind this resource takes too long.",
        _ if status < 500 => "The server does not accept the request.",
        _ => "The server failed.",
    }
}

/// The gRPC status that says the same, as a number in text.
#[must_use]
pub const fn grpc(status: u16) -> &'static str {
    match status {
        401 => "16",              // UNAUTHENTICATED
        403 => "7",               // PERMISSION_DENIED
        404 | 405 | 501 => "12",  // UNIMPLEMENTED
        408 | 504 => "4",         // DEADLINE_EXCEEDED
        409 => "10",              // ABORTED
        412 => "9",               // FAILED_PRECONDITION
        413 | 429 => "8",         // RESOURCE_EXHAUSTED
        416 => "11",              // OUT_OF_RANGE
        502 | 503 => "14",        // UNAVAILABLE
        _ if status < 500 => "3", // INVALID_ARGUMENT
        _ => "13",                // INTERNAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_words_that_need_no_escaping_and_a_grpc_status_that_is_one() {
        for status in 400..600 {
            for text in [title(status), detail(status)] {
                assert!(text.len() > 3 && text.bytes().all(|b| (b' '..=b'~').contains(&b) && !b"\"\\<>&".contains(&b)));
            }
            assert!((1..=16).contains(&grpc(status).parse::<u8>().unwrap()), "{status}");
        }
        assert_eq!([title(418), title(599), grpc(418), grpc(599)], ["Client Error", "Server Error", "3", "13"]);
    }
}
