//! Threads that work on independent things at the same time.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// One thread a core, or as many as the variable RAYON_NUM_THREADS says.
///
/// Each is a pool of its own: candle has the pool that it runs in share every large product and waits for that, where a thread
/// that has something else to do, or no processor, holds up all. A pool of one waits for nobody.
pub(crate) struct Workers(Vec<ThreadPool>);

impl Workers {
    pub(crate) fn new() -> Result<Workers, ThreadPoolBuildError> {
        let alone = || ThreadPoolBuilder::new().num_threads(1).thread_name(|_| "bert".to_owned()).build();
        (0..rayon::current_num_threads()).map(|_| alone()).collect::<Result<_, _>>().map(Workers)
    }

    /// What `work` makes of each item, in their order, or an error that it met. Calls at the same time take turns.
    pub(crate) fn map<T: Sync, R: Send, E: Send>(&self, items: &[T], work: impl Fn(&T) -> Result<R, E> + Sync) -> Result<Vec<R>, E> {
        let next = AtomicUsize::new(0);
        let share = || {
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = items.get(index) else { return Ok(done) };
                done.push((index, work(item)?));
            }
        };
        let shares: Result<Vec<_>, E> = thread::scope(|scope| {
            let running: Vec<_> = self.0.iter().map(|pool| scope.spawn(|| pool.install(share))).collect();
            running.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
        });
        let mut done: Vec<(usize, R)> = shares?.into_iter().flatten().collect();
        done.sort_unstable_by_key(|&(index, _)| index);
        Ok(done.into_iter().map(|(_, result)| result).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_what_they_are_of() {
        let workers = Workers::new().expect("threads");
        let items: Vec<u32> = (0..1000).collect();
        assert_eq!(workers.map(&items, |&item| Ok::<_, ()>(item * 2)), Ok(items.iter().map(|item| item * 2).collect()));
        assert_eq!(workers.map(&items, |&item| if item < 500 { Ok(()) } else { Err("late") }), Err("late"));
        assert_eq!(workers.map(&[], |_: &u32| Ok::<_, ()>(())), Ok(vec![]));
    }
}
