//! Header lines in memory that is used again for the next request.

/// Lines of a header: names and values in one buffer.
#[derive(Debug, Default)]
pub(super) struct Lines {
    text: Vec<u8>,
    /// Where each line's value begins and ends; its name begins where the line before it ends.
    ends: Vec<(usize, usize)>,
}

impl Lines {
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Adds a line whose value is `pieces` one after the other.
    pub(super) fn push(&mut self, name: &[u8], pieces: &[&[u8]]) {
        self.push_with(name, |text| {
            pieces.iter().for_each(|piece| text.extend_from_slice(piece));
            true
        });
    }

    /// Adds a line whose value `write` appends; none where it says no.
    pub(super) fn push_with(&mut self, name: &[u8], write: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        let begins = self.text.len();
        self.text.extend_from_slice(name);
        let value = self.text.len();
        let done = write(&mut self.text);
        if done {
            self.ends.push((value, self.text.len()));
        } else {
            self.text.truncate(begins);
        }
        done
    }

    /// Name and value of each line, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut begins = 0;
        self.ends.iter().map(move |&(value, end)| {
            let name = self.text.get(begins..value).unwrap_or_default();
            begins = end;
            (name, self.text.get(value..end).unwrap_or_default())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_order() {
        let mut lines = Lines::default();
        assert!(lines.is_empty());
        lines.push(b"A", &[b"1", b"", b"2"]);
        assert!(!lines.push_with(b"B", |text| {
            text.extend_from_slice(b"half");
            false
        }));
        lines.push(b"C", &[]);
        assert_eq!(lines.iter().collect::<Vec<_>>(), [(&b"A"[..], &b"12"[..]), (b"C", b"")]);
        lines.clear();
        assert_eq!(lines.iter().count(), 0);
    }
}
