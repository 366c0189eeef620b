//! The clock and the entropy of the system, as the thread of a simulation sees them.
//!
//! QUIC asks the system for the time, and TLS, tokio and hash tables ask it for random bytes. Under tokio's paused clock
//! that would be two times at once, and no two runs alike. On Linux a test binary can define the two functions of the C
//! library that all of them call; [`virtual_time!`](crate::virtual_time) does. On a thread that runs a simulation they
//! answer from it; on every other thread they ask the kernel.
//!
//! This is the only place of the library with `unsafe`: the two functions have the C library's signatures.

use std::cell::{Cell, RefCell};

use honeylink_core::rng::Rng;

thread_local! {
    static ACTIVE: Cell<bool> = const { Cell::new(false) };
    /// Set by a system call that came here: the functions are in place.
    static ASKED: Cell<bool> = const { Cell::new(false) };
    static RANDOM: RefCell<Option<Rng>> = const { RefCell::new(None) };
    /// tokio's time when the run began.
    static STARTED: Cell<Option<tokio::time::Instant>> = const { Cell::new(None) };
}

/// Begins a run on this thread. Returns whether the system's clock follows it.
pub(crate) fn begin(seed: u64) -> bool {
    RANDOM.set(Some(Rng::from_u64(seed)));
    ASKED.set(false);
    ACTIVE.set(true);
    // On other systems, and without the two functions, this asks the system and leaves no trace.
    std::hint::black_box(std::time::Instant::now());
    ASKED.get()
}

/// The run is inside its runtime now: wall time counts from here.
pub(crate) fn started() {
    STARTED.set(Some(tokio::time::Instant::now()));
}

/// Ends the run of this thread.
pub(crate) fn end() {
    STARTED.set(None);
    ACTIVE.set(false);
    RANDOM.set(None);
}

/// Unix time in milliseconds at which every run begins: 2026-01-01T00:00:00Z.
const WALL_START_MS: u64 = 1_767_225_600_000;

/// The wall time of the run on this thread, if there is one.
pub(crate) fn unix_ms() -> Option<u64> {
    let elapsed = STARTED.get()?.elapsed();
    Some(WALL_START_MS + u64::try_from(elapsed.as_millis()).unwrap_or(0))
}

/// Whether this thread runs a simulation, in which other threads would bring disorder.
pub(crate) fn is_running() -> bool {
    STARTED.get().is_some()
}

#[cfg(target_os = "linux")]
pub use linux::{Timespec, clock_gettime, getrandom};

#[cfg(target_os = "linux")]
mod linux {
    use std::cell::Cell;
    use std::time::{Duration, Instant};

    use super::{ACTIVE, ASKED, RANDOM, WALL_START_MS};

    pub use libc::timespec as Timespec;

    /// What the monotonic clock shows when a run begins. Far from zero, because programs subtract.
    const MONOTONIC_START: Duration = Duration::from_secs(1_000_000);

    thread_local! {
        /// While the runtime is asked for its time, it may ask for ours.
        static BUSY: Cell<bool> = const { Cell::new(false) };
        static BASE: Cell<Option<Instant>> = const { Cell::new(None) };
        static ELAPSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    /// How far the run on this thread has come, as its runtime knows.
    fn elapsed() -> Duration {
        if !BUSY.replace(true) {
            // The first call sees the start itself: outside a runtime, tokio asks the system, which is us.
            let now = tokio::time::Instant::now().into_std();
            let base = BASE.get().unwrap_or(now);
            BASE.set(Some(base));
            ELAPSED.set(now.saturating_duration_since(base));
            BUSY.set(false);
        }
        ELAPSED.get()
    }

    /// The C library's function of this name, for [`virtual_time!`](crate::virtual_time).
    ///
    /// # Safety
    /// As there: `out` is null or points to a `timespec`.
    #[expect(unsafe_code, reason = "the C library's signature")]
    pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, out: *mut Timespec) -> libc::c_int {
        let active = ACTIVE.try_with(Cell::get).unwrap_or(false);
        let start = match clock {
            libc::CLOCK_MONOTONIC => MONOTONIC_START,
            libc::CLOCK_REALTIME => Duration::from_millis(WALL_START_MS),
            _ => Duration::ZERO,
        };
        if !active || start.is_zero() || out.is_null() {
            // SAFETY: the caller keeps the contract of the system call, which is that of this function.
            let answer = unsafe { libc::syscall(libc::SYS_clock_gettime, libc::c_long::from(clock), out) };
            return libc::c_int::try_from(answer).unwrap_or(-1);
        }
        ASKED.set(true);
        let now = start + elapsed();
        // SAFETY: not null, and by contract a place for one `timespec`; all bits zero are a valid one.
        unsafe {
            out.write(std::mem::zeroed());
            (*out).tv_sec = libc::time_t::try_from(now.as_secs()).unwrap_or(libc::time_t::MAX);
            (*out).tv_nsec = libc::c_long::from(now.subsec_nanos().cast_signed());
        }
        0
    }

    /// The C library's function of this name, for [`virtual_time!`](crate::virtual_time).
    ///
    /// # Safety
    /// As there: `buffer` points to `length` bytes that may be written.
    #[expect(unsafe_code, reason = "the C library's signature")]
    pub unsafe extern "C" fn getrandom(
        buffer: *mut libc::c_void,
        length: libc::size_t,
        flags: libc::c_uint,
    ) -> libc::ssize_t {
        let filled = RANDOM.try_with(|random| {
            let mut random = random.try_borrow_mut().ok()?;
            let random = random.as_mut().filter(|_| length > 0)?;
            // SAFETY: by contract these bytes are the caller's to write, and a byte has no invalid value.
            let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
            random.fill(bytes);
            libc::ssize_t::try_from(length).ok()
        });
        if let Ok(Some(filled)) = filled {
            return filled;
        }
        // SAFETY: the caller keeps the contract of the system call, which is that of this function.
        let answer = unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) };
        libc::ssize_t::try_from(answer).unwrap_or(-1)
    }
}

/// Lets the system's clock and entropy follow the simulation, on its thread: write it once in the crate of a test.
///
/// With it, on Linux, simulated nodes speak real QUIC (`honeylink::testing::Stack::Quic`), and everything that draws
/// random numbers or reads a clock on that thread repeats from the seed, yours and your dependencies' code included. On
/// other systems it does nothing. It defines `clock_gettime` and `getrandom` for the whole binary: never write it into a
/// program that people run.
///
/// ```standalone_crate
/// honeylink::virtual_time!();
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! virtual_time {
    () => {
        #[cfg(target_os = "linux")]
        mod honeylink_virtual_time {
            //! What the C library would answer, except to simulations.
            use ::core::ffi::{c_int, c_uint, c_void};

            #[unsafe(no_mangle)]
            unsafe extern "C" fn clock_gettime(
                clock: c_int,
                out: *mut $crate::testing::virtual_time::Timespec,
            ) -> c_int {
                // SAFETY: the same contract.
                unsafe { $crate::testing::virtual_time::clock_gettime(clock, out) }
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
                // SAFETY: the same contract.
                unsafe { $crate::testing::virtual_time::getrandom(buffer, length, flags) }
            }
        }
    };
}
