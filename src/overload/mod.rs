//! Overload: how many requests an upstream can be at work on before more of them only make all of them slower.
//!
//! Nobody knows that number beforehand, and it changes. It shows in the latency: up to the knee more requests at once
//! take no longer, beyond it each one waits for the others. So the limit follows a *gradient*, as that of TCP Vegas and
//! of its successors does: after each [`Window`] it goes half of the way to `tolerance x baseline / latency` times itself,
//! the latency being the window's mean time to the response header and the baseline what the upstream takes when it is
//! not pressed. Where more are under way than the limit says, as in shadow mode, it is they who took so long, and the
//! limit goes to that part of *them*: so shadow mode shows where the limit would be if it were enforced.
//!
//! **The baseline is the weak point of all such limits.** If it follows a rising latency, a slow overload is learnt as
//! normal and the limit is none; if it never rises, an upstream that became slower for good is starved. Here it falls with
//! any better window, and rises in one case alone: when the limit is at `min`, no more than that are under way, and latency
//! is still above what is tolerated. What an upstream takes with the fewest requests at once is its own doing, not that of
//! our queue. In shadow mode nothing makes them few, so there the baseline rises only when the load itself is that low.
//!
//! The limit grows only while it is used: one that nobody came near says nothing about what is beyond.
//!
//! Requests count from the pick of their first peer to the response header, which is the time that is measured; what
//! streams after that, WebSockets and slow uploads before it are no load in this sense. A try that fails quickly is no
//! sample: failing fast must not look fast.
//!
//! All of it is values: [`State`], [`Samples`] and [`Window`], one word each, and functions from one to the next;
//! `state::tables::overload` keeps them for all workers.

mod limit;
mod settings;
mod window;

pub use limit::{State, admits, share};
pub use settings::{ArchivedOverload, Mode, Overload};
pub use window::{SAMPLES_MIN, Samples, Window};
