//! Planted bugs, for trying out the tests: each is a place in the code that asks whether it is to
//! do the wrong thing. Only a build with the feature `mutants` can; in any other the question is a
//! constant and the wrong thing is not even compiled.
//!
//! [`crate::sim::MUTANTS`] lists them; `make sim-mutants` shows that the simulator finds each.

/// Whether this bug is planted.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) const fn is(_name: &str) -> bool {
    false
}

#[cfg(feature = "mutants")]
pub(crate) use planted::{is, plant};

#[cfg(feature = "mutants")]
mod planted {
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<&'static str> = const { Cell::new("") };
    }

    /// Whether this bug is planted.
    pub(crate) fn is(name: &str) -> bool {
        PLANTED.get() == name
    }

    /// Plants this bug, and no other, in what this thread runs.
    pub(crate) fn plant(name: &'static str) {
        PLANTED.set(name);
    }
}
