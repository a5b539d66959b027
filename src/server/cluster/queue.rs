//! Work handed from one thread to another, which takes all there is at once.

use crate::server::threads::lock;
use std::sync::{Condvar, Mutex, PoisonError};

pub struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    items: Vec<T>,
    is_closed: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let state = State { items: Vec::new(), is_closed: false };
        Queue { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl<T> Queue<T> {
    pub fn push(&self, item: T) {
        lock(&self.state).items.push(item);
        self.changed.notify_one();
    }

    /// Waits for work; none when there will be no more.
    pub fn take(&self) -> Option<Vec<T>> {
        let mut state = lock(&self.state);
        while state.items.is_empty() {
            if state.is_closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Some(std::mem::take(&mut state.items))
    }

    /// What is there is still taken, and then no more.
    pub fn close(&self) {
        lock(&self.state).is_closed = true;
        self.changed.notify_all();
    }
}
