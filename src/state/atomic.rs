//! What the protocols of the region ask of a word. The region's are [`AtomicU64`]; the tests that try every order of a
//! protocol's steps (`tests/*_loom.rs`) bring their own and run the very same code.

use std::sync::atomic::Ordering;
use std::sync::atomic::{AtomicU64, fence};

/// An atomic 64-bit word; each function is that of [`AtomicU64`] with its name.
#[allow(missing_docs, reason = "they are known")]
pub trait Atomic: 'static {
    fn load(&self, order: Ordering) -> u64;
    fn store(&self, value: u64, order: Ordering);
    fn swap(&self, value: u64, order: Ordering) -> u64;
    fn compare_exchange(&self, old: u64, new: u64, done: Ordering, failed: Ordering) -> Result<u64, u64>;
    fn fetch_add(&self, more: u64, order: Ordering) -> u64;
    fn fetch_sub(&self, less: u64, order: Ordering) -> u64;
    fn fetch_or(&self, bits: u64, order: Ordering) -> u64;

    #[inline(always)]
    fn compare_exchange_weak(&self, old: u64, new: u64, done: Ordering, failed: Ordering) -> Result<u64, u64> {
        self.compare_exchange(old, new, done, failed)
    }

    #[inline(always)]
    fn fetch_update(
        &self,
        done: Ordering,
        load: Ordering,
        mut change: impl FnMut(u64) -> Option<u64>,
    ) -> Result<u64, u64> {
        let mut old = self.load(load);
        while let Some(new) = change(old) {
            match self.compare_exchange_weak(old, new, done, load) {
                Ok(_) => return Ok(old),
                Err(other) => old = other,
            }
        }
        Err(old)
    }

    /// [`std::sync::atomic::fence`].
    fn fence(order: Ordering);

    /// What a word beyond a slot's width is: a mistake of the caller, which must not reach a neighbour.
    fn nowhere() -> &'static Self;
}

static NOWHERE: AtomicU64 = AtomicU64::new(0);

impl Atomic for AtomicU64 {
    #[inline(always)]
    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }

    #[inline(always)]
    fn store(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }

    #[inline(always)]
    fn swap(&self, value: u64, order: Ordering) -> u64 {
        self.swap(value, order)
    }

    #[inline(always)]
    fn compare_exchange(&self, old: u64, new: u64, done: Ordering, failed: Ordering) -> Result<u64, u64> {
        self.compare_exchange(old, new, done, failed)
    }

    #[inline(always)]
    fn compare_exchange_weak(&self, old: u64, new: u64, done: Ordering, failed: Ordering) -> Result<u64, u64> {
        self.compare_exchange_weak(old, new, done, failed)
    }

    #[inline(always)]
    fn fetch_add(&self, more: u64, order: Ordering) -> u64 {
        self.fetch_add(more, order)
    }

    #[inline(always)]
    fn fetch_sub(&self, less: u64, order: Ordering) -> u64 {
        self.fetch_sub(less, order)
    }

    #[inline(always)]
    fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
        self.fetch_or(bits, order)
    }

    #[inline(always)]
    fn fence(order: Ordering) {
        fence(order);
    }

    #[inline(always)]
    fn nowhere() -> &'static Self {
        &NOWHERE
    }
}
