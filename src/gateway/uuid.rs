//! Request ids.

use crate::types::{MILLISECOND, Now};

/// A UUIDv7 (RFC 9562, 5.7) as text: milliseconds since the epoch first, so that ids sort by time, then 74 random
/// bits from `first` and `second`.
#[must_use]
pub fn uuid_v7(now: Now, first: u64, second: u64) -> [u8; 36] {
    let millis = now.wall / MILLISECOND;
    let high = millis << 16 | 0x7000 | first & 0x0fff;
    let low = 0x8000_0000_0000_0000 | second & 0x3fff_ffff_ffff_ffff;
    let value = u128::from(high) << 64 | u128::from(low);
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'-'; 36];
    // Where the two digits of each byte go.
    const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    for (byte, place) in value.to_be_bytes().into_iter().zip(PLACES) {
        if let Some([high, low]) = text.get_mut(place..place + 2).and_then(|pair| <&mut [u8; 2]>::try_from(pair).ok()) {
            *high = DIGITS.get(usize::from(byte >> 4)).copied().unwrap_or(b'0');
            *low = DIGITS.get(usize::from(byte & 15)).copied().unwrap_or(b'0');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_form_of_the_rfc() {
        // The example of RFC 9562, appendix A.6: 2022-02-22 19:22:22 UTC.
        let now = Now { mono: 0, wall: 0x017F_22E2_79B0 * MILLISECOND };
        let id = uuid_v7(now, 0xCC3, 0x18C4_DC0C_0C07_398F);
        assert_eq!(std::str::from_utf8(&id).unwrap(), "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
    }
}
