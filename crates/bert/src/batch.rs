//! Texts put together for one pass through the model.

/// How many tokens go through the model at a time: enough for its products to be efficient, few enough to stay in caches.
pub(crate) const BATCH_TOKENS: usize = 1 << 10;

/// The tokens of several texts one after the other, without padding.
pub(crate) struct Batch {
    pub(crate) ids: Vec<u32>,
    /// How long each text is; equal lengths are neighbours.
    pub(crate) lengths: Vec<usize>,
}

impl Batch {
    /// The place of each token in its text.
    pub(crate) fn positions(&self) -> Vec<u32> {
        self.lengths.iter().flat_map(|&length| 0..length as u32).collect()
    }

    /// How many texts in a row have which length.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.lengths.chunk_by(|one, other| one == other).map(|run| (run.len(), run[0]))
    }
}

/// Splits texts into batches of at most [`BATCH_TOKENS`], or of one text; in ascending order of length.
///
/// Gives the batches with the indices of their texts.
pub(crate) fn batches(texts: &[&[u32]]) -> Vec<(Vec<usize>, Batch)> {
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&index| texts[index].len());
    let mut batches: Vec<(Vec<usize>, Batch)> = Vec::new();
    for index in order {
        let text = texts[index];
        match batches.last_mut() {
            Some((members, batch)) if batch.ids.len() + text.len() <= BATCH_TOKENS => {
                members.push(index);
                batch.ids.extend_from_slice(text);
                batch.lengths.push(text.len());
            }
            _ => batches.push((vec![index], Batch { ids: text.to_vec(), lengths: vec![text.len()] })),
        }
    }
    // The long ones first, so that no thread is left with one when the others are done.
    batches.reverse();
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_like_length_go_together_within_the_limit() {
        let text = [1; 2000];
        let texts = [600, 3, 500, 3, 2000, 7].map(|length| &text[..length]);
        let batches = batches(&texts);
        let members: Vec<&[usize]> = batches.iter().map(|(members, _)| members.as_slice()).collect();
        assert_eq!(members, [&[4][..], &[0], &[1, 3, 5, 2]]);
        assert_eq!(batches[2].1.runs().collect::<Vec<_>>(), [(2, 3), (1, 7), (1, 500)]);
        assert_eq!(batches[2].1.positions()[..8], [0, 1, 2, 0, 1, 2, 0, 1]);
    }
}
