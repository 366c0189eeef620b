//! Telling a copy from something new: frames by their identity, for a while, within a bound.
//!
//! A frame that was forwarded once is never forwarded again, so no route, however wrong, makes a loop; a frame is its
//! [`FrameId`], eight bytes. What is remembered sits in two generations. New entries go into the young one. When it is
//! full or has been young for a whole window, it becomes the old one and the old one is forgotten. An entry is thus
//! remembered for one to two windows, and under a flood until half the bound has been seen after it: a flood shortens
//! the memory, it never enlarges it. Both steps are O(log n), and nothing is allocated before the first entry.
//!
//! [`Recent`] keeps a value with each entry (which way a frame came, how many copies were heard); [`Seen`] keeps none.

use std::collections::BTreeMap;

use core::time::Duration;

use crate::time::Time;

pub use super::raw::FrameId;

/// Frames seen lately.
pub type Seen = Recent<FrameId, ()>;

/// Entries of the last one to two windows, at most as many as its bound.
#[derive(Debug)]
pub struct Recent<K, V> {
    young: BTreeMap<K, V>,
    old: BTreeMap<K, V>,
    young_since: Time,
    window: Duration,
    generation_max: usize,
}

impl<K: Ord + Copy, V> Recent<K, V> {
    /// Remembers entries for at least `window`, if no more than half of `entries_max` come after them meanwhile.
    #[must_use]
    pub const fn new(window: Duration, entries_max: usize) -> Self {
        let half = entries_max / 2;
        Self {
            young: BTreeMap::new(),
            old: BTreeMap::new(),
            young_since: Time::ZERO,
            window,
            generation_max: if half == 0 { 1 } else { half },
        }
    }

    /// Remembers `key` with `value` if it is new, and says whether it was. What is known already stays as it is.
    pub fn insert(&mut self, now: Time, key: K, value: V) -> bool {
        self.age(now);
        if self.young.contains_key(&key) || self.old.contains_key(&key) {
            return false;
        }
        if self.young.len() >= self.generation_max {
            self.turn(now);
        }
        if self.is_empty() {
            self.young_since = now;
        }
        self.young.insert(key, value);
        true
    }

    /// What is remembered of `key`.
    pub fn find(&mut self, now: Time, key: &K) -> Option<&V> {
        self.find_mut(now, key).map(|value| &*value)
    }

    /// What is remembered of `key`, to be changed. Looking does not make an entry younger.
    pub fn find_mut(&mut self, now: Time, key: &K) -> Option<&mut V> {
        self.age(now);
        match self.young.get_mut(key) {
            Some(value) => Some(value),
            None => self.old.get_mut(key),
        }
    }

    /// Forgets `key` and returns what was remembered of it.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }

    /// How many entries are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether nothing is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything remembered, oldest generation first, in the order of the keys within it.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.old.iter().chain(&self.young)
    }

    fn age(&mut self, now: Time) {
        if self.is_empty() {
            return;
        }
        let age = now.saturating_since(self.young_since);
        if age >= self.window * 2 {
            self.old = BTreeMap::new();
            self.young = BTreeMap::new();
        } else if age >= self.window {
            // The generation ends where its window ended, not when somebody looked: two windows are the most.
            let end = self.young_since + self.window;
            self.turn(end);
        }
    }

    fn turn(&mut self, now: Time) {
        self.old = core::mem::take(&mut self.young);
        self.young_since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: Duration = Duration::from_secs(60);

    fn at(s: u64) -> Time {
        Time::from_millis(s * 1000)
    }

    #[test]
    fn a_copy_is_told_from_something_new_for_a_whole_window() {
        let mut seen = Seen::new(WINDOW, 100);
        assert!(seen.insert(at(0), [1; 8], ()));
        assert!(!seen.insert(at(60), [1; 8], ()));
        assert!(seen.insert(at(120), [1; 8], ()), "two windows later it is new again");
    }

    #[test]
    fn a_flood_leaves_half_the_bound_remembered_and_never_more_than_the_bound() {
        let mut seen = Recent::new(WINDOW, 100);
        for n in 0..10_000_u32 {
            assert!(seen.insert(at(1), n, n));
            assert!(seen.len() <= 100);
        }
        for n in 9_950..10_000 {
            assert_eq!(seen.find(at(1), &n), Some(&n));
        }
    }

    #[test]
    fn an_idle_memory_holds_nothing() {
        let mut seen = Seen::new(WINDOW, 100);
        seen.insert(at(0), [1; 8], ());
        assert_eq!(seen.find(at(500), &[1; 8]), None);
        assert!(seen.is_empty());
    }

    proptest! {
        #[test]
        fn an_entry_lives_one_to_two_windows(steps in proptest::collection::vec((0..40_u64, 0..20_u8), 1..200)) {
            let mut seen = Recent::new(WINDOW, 1000);
            let mut first = BTreeMap::new();
            let mut now = Time::ZERO;
            for (wait, key) in steps {
                now += Duration::from_secs(wait);
                let new = seen.insert(now, key, ());
                let age = first.get(&key).map(|since| now.saturating_since(*since));
                match age {
                    None => prop_assert!(new),
                    Some(age) if age < WINDOW => prop_assert!(!new),
                    Some(age) if age >= WINDOW * 2 => prop_assert!(new),
                    Some(_) => {}
                }
                if new {
                    first.insert(key, now);
                }
            }
        }
    }
}
