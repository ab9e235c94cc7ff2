//! How much work one pair may be, so that no pair holds up a batch.

/// Longest text, in bytes: 16 MiB.
pub const MAX_BYTES: usize = 16 << 20;

/// Most steps one metric may take for one pair, each of one to four nanoseconds.
///
/// A step is 64 cells of an alignment table in edit distance and longest common subsequence: two texts of 350,000 characters
/// that differ throughout are just within it for `levenshtein` and `cer`, two of 350,000 words for `rougeL` and `wer`.
/// `rougeLsum` begins a new table for each sentence of the reference, so there it is the reference's sentences times the
/// candidate's words. In `ter` a step is one cell of the beam: 40,000 words.
pub const MAX_STEPS: u64 = 2_000_000_000;

/// The steps it would have taken, above [`MAX_STEPS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Excess(pub(crate) u64);

/// Refuses what would take more than [`MAX_STEPS`].
pub(crate) fn afford(steps: u64) -> Result<(), Excess> {
    if steps > MAX_STEPS { Err(Excess(steps)) } else { Ok(()) }
}
