//! Explaining: the pipeline tells a recorder what it does. `access` runs with [`Silent`], which compiles to nothing;
//! there is no second matcher that could disagree with the first.

use std::fmt;

/// Where in the order of one request a note was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Path and host are brought into one form and checked.
    Request,
    /// The route is looked up.
    Route,
    /// A limiter was asked.
    Limit,
    /// Credentials were checked.
    Auth,
    /// What the caller may do was compared with what the route requires.
    Permission,
    /// The upstream's breaker was asked.
    Breaker,
    /// What is forwarded.
    Forward,
}

/// Who listens to the pipeline.
pub trait Recorder {
    /// Takes one note. `text` is formatted only if the recorder does so.
    fn note(&mut self, step: Step, text: fmt::Arguments<'_>);
}

/// Listens to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Recorder for Silent {
    #[inline(always)]
    fn note(&mut self, _: Step, _: fmt::Arguments<'_>) {}
}

/// Keeps every note.
#[derive(Clone, Debug, Default)]
pub struct Notes(pub Vec<(Step, String)>);

impl Recorder for Notes {
    fn note(&mut self, step: Step, text: fmt::Arguments<'_>) {
        self.0.push((step, text.to_string()));
    }
}
