//! The queue of what is going to happen: earliest first, and among equals whoever was put in first.
//!
//! The second half of that sentence is what makes runs repeat: a heap alone gives equal keys back in any order.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::clock::Moment;

struct Entry<E> {
    at: Moment,
    order: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// Events by moment, ties in the order of insertion.
pub struct Queue<E> {
    heap: BinaryHeap<Reverse<Entry<E>>>,
    inserted: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), inserted: 0 }
    }
}

impl<E> Queue<E> {
    /// Lets `event` happen at `at`.
    pub fn push(&mut self, at: Moment, event: E) {
        self.heap.push(Reverse(Entry { at, order: self.inserted, event }));
        self.inserted += 1;
    }

    /// Takes the next event out if it happens at `until` or before.
    pub fn pop_until(&mut self, until: Moment) -> Option<(Moment, E)> {
        if self.heap.peek().is_none_or(|Reverse(entry)| entry.at > until) {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }

    /// How many events wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_moments_come_out_in_the_order_they_went_in() {
        let mut queue = Queue::default();
        for n in 0..100 {
            queue.push(Moment(n % 3), n);
        }
        let mut out = Vec::new();
        while let Some((at, n)) = queue.pop_until(Moment(1)) {
            out.push((at.0, n));
        }
        assert!(out.is_sorted());
        assert_eq!((out.len(), queue.len()), (67, 33));
    }
}
