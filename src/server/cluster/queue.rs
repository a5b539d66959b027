//! Work handed from one thread to another, which takes all there is at once.

use crate::server::threads::lock;
use std::sync::{Condvar, Mutex, PoisonError};

pub struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    items: Vec<T>,
    is_called: bool,
    is_closed: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let state = State { items: Vec::new(), is_called: false, is_closed: false };
        Queue { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl<T> Queue<T> {
    pub fn push(&self, item: T) {
        self.put(item);
        self.call();
    }

    /// Adds work without waking who waits for it.
    pub fn put(&self, item: T) {
        lock(&self.state).items.push(item);
    }

    /// Wakes who waits for work.
    pub fn call(&self) {
        lock(&self.state).is_called = true;
        self.changed.notify_one();
    }

    pub fn is_empty(&self) -> bool {
        lock(&self.state).items.is_empty()
    }

    /// Waits for work or a call; false when there will be no more.
    pub fn wait(&self) -> bool {
        let mut state = lock(&self.state);
        while state.items.is_empty() && !state.is_called {
            if state.is_closed {
                return false;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_called = false;
        true
    }

    /// Takes what there is, if all of it is so.
    pub fn take_if(&self, is_so: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut state = lock(&self.state);
        match state.items.iter().all(is_so) {
            true => std::mem::take(&mut state.items),
            false => Vec::new(),
        }
    }

    /// Waits for work; none when there will be no more.
    pub fn take(&self) -> Option<Vec<T>> {
        self.wait().then(|| self.take_if(|_| true))
    }

    /// What is there is still taken, and then no more.
    pub fn close(&self) {
        lock(&self.state).is_closed = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_is_not_so_is_left_with_all_before_it() {
        let queue = Queue::default();
        queue.put(1);
        queue.put(12);
        assert!(queue.take_if(|item| *item < 10).is_empty());
        assert!(!queue.is_empty());
        assert_eq!(queue.take(), Some(vec![1, 12]));
        assert!(queue.is_empty());
    }

    #[test]
    fn a_call_without_work_ends_one_wait() {
        let queue = Queue::<u8>::default();
        queue.call();
        assert!(queue.wait());
        queue.close();
        assert!(!queue.wait());
        queue.put(1);
        assert_eq!(queue.take(), Some(vec![1]), "what is there is still taken");
    }
}
