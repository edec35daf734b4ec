/// The peers that a request was already sent to, by their place in the pick table.
///
/// The first 64 places are bits; beyond, a list, which holds one more than the 16 tries that a document may ask
/// for. Were it full all the same, every place beyond 64 would count as tried. Places mean the table they were
/// picked from: when the peer list changed between two tries, begin anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    low: u64,
    more: [u32; 17],
    count: u32,
}

impl Tried {
    /// Nobody yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { low: 0, more: [0; 17], count: 0 }
    }

    /// Nobody any more. What is left in the list means nothing.
    #[inline]
    pub fn clear(&mut self) {
        self.low = 0;
        self.count = 0;
    }

    /// Notes that the peer at `place` was tried.
    #[inline]
    pub fn insert(&mut self, place: u32) {
        if place < 64 {
            self.low |= 1 << place;
        } else if !self.contains(place)
            && let Some(free) = self.more.get_mut(self.count as usize)
        {
            *free = place;
            self.count += 1;
        }
    }

    /// Forgets `place`: the try there was none. Of a full list nobody is forgotten.
    pub fn remove(&mut self, place: u32) {
        if place < 64 {
            self.low &= !(1 << place);
            return;
        }
        let known = self.more.get_mut(..self.count as usize).unwrap_or_default();
        if known.len() < 17
            && let Some(index) = known.iter().position(|one| *one == place)
            && let Some(last) = known.last().copied()
            && let Some(hole) = known.get_mut(index)
        {
            *hole = last;
            self.count -= 1;
        }
    }

    /// Whether the peer at `place` was tried.
    #[must_use]
    #[inline]
    pub fn contains(&self, place: u32) -> bool {
        if place < 64 {
            return self.low & 1 << place != 0;
        }
        self.count != 0
            && (self.count as usize == self.more.len()
                || self.more.iter().take(self.count as usize).any(|one| *one == place))
    }

    /// How many were tried.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.low.count_ones() + self.count
    }

    /// Whether nobody was tried.
    #[must_use]
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.low == 0 && self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_below_and_beyond_64() {
        let mut tried = Tried::new();
        assert!(tried.is_empty());
        for place in [0, 63, 64, 64, 9_999] {
            tried.insert(place);
            assert!(tried.contains(place), "{place}");
        }
        assert_eq!(tried.len(), 4);
        for place in [1, 62, 65, 10_000] {
            assert!(!tried.contains(place), "{place}");
        }
    }

    #[test]
    fn a_place_is_forgotten_alone() {
        let mut tried = Tried::new();
        for place in [3, 70, 80, 90] {
            tried.insert(place);
        }
        for place in [70, 3, 70, 500] {
            tried.remove(place);
            assert!(!tried.contains(place), "{place}");
        }
        assert!(tried.contains(80) && tried.contains(90) && tried.len() == 2);
    }

    #[test]
    fn a_full_list_counts_everybody_beyond_as_tried() {
        let mut tried = Tried::new();
        for place in 100..117 {
            assert!(!tried.contains(500));
            tried.insert(place);
        }
        assert!(tried.contains(500) && !tried.contains(5));
    }
}
