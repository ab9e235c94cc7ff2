//! The sums that scores are made of, of one pair or of many.

use std::ops::AddAssign;

use crate::bleu::{self, Orders};
use crate::chrf::{self, Both, Variant};
use crate::limit::Excess;
use crate::metric::Metric;
use crate::pair::Pair;
use crate::rates::{Characters, Rate, word_error_rate};
use crate::rouge::{Rouge, Stemming, Texts};
use crate::scores::Score;
use crate::squad::Answer;
use crate::ter;

/// Sums over `pairs` pairs; those of metrics that were not asked for stay 0.
///
/// Counts where the metric is defined over a corpus, so that it does not matter how the pairs were split; sums of values
/// where a corpus has their mean.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) pairs: u64,
    bleu: bleu::Stats,
    chrf: chrf::Stats,
    chrf_words: chrf::Stats,
    ter: ter::Stats,
    /// By the order of their metrics.
    rouge: [Rouge; 4],
    answer: Answer,
    levenshtein: u64,
    words: Rate,
    characters: Rate,
}

impl AddAssign<&Tally> for Tally {
    fn add_assign(&mut self, other: &Tally) {
        self.pairs += other.pairs;
        self.bleu += &other.bleu;
        self.chrf += &other.chrf;
        self.chrf_words += &other.chrf_words;
        self.ter += &other.ter;
        for (sum, rouge) in self.rouge.iter_mut().zip(&other.rouge) {
            *sum += rouge;
        }
        self.answer.exact += other.answer.exact;
        self.answer.f1 += other.answer.f1;
        self.levenshtein += other.levenshtein;
        self.words += &other.words;
        self.characters += &other.characters;
    }
}

impl Tally {
    /// What `metrics` need of one pair. Errors: the metric that would take too long.
    pub(crate) fn of(pair: &Pair, metrics: &[Metric], stemming: Stemming) -> Result<Tally, (Metric, Excess)> {
        let (candidate, references) = (pair.candidate.as_str(), pair.references.as_slice());
        let wants = |metric| metrics.contains(&metric);
        let mut tally = Tally { pairs: 1, ..Tally::default() };
        if wants(Metric::Bleu) {
            tally.bleu = bleu::Stats::of(candidate, references);
        }
        if wants(Metric::Chrf) || wants(Metric::ChrfWords) {
            let variant = if wants(Metric::ChrfWords) { Variant::WithWords } else { Variant::CharactersOnly };
            Both { chrf: tally.chrf, with_words: tally.chrf_words } = Both::of(candidate, references, variant);
        }
        if wants(Metric::Ter) {
            tally.ter = ter::Stats::of(candidate, references).map_err(|excess| (Metric::Ter, excess))?;
        }
        tally.add_rouge(pair, metrics, stemming)?;
        if wants(Metric::ExactMatch) || wants(Metric::F1) {
            tally.answer = Answer::of(candidate, references);
        }
        if wants(Metric::Levenshtein) || wants(Metric::Cer) {
            let characters = Characters::new(candidate, references);
            if wants(Metric::Levenshtein) {
                tally.levenshtein = characters.levenshtein().map_err(|excess| (Metric::Levenshtein, excess))?;
            }
            if wants(Metric::Cer) {
                tally.characters = characters.error_rate().map_err(|excess| (Metric::Cer, excess))?;
            }
        }
        if wants(Metric::Wer) {
            tally.words = word_error_rate(candidate, references).map_err(|excess| (Metric::Wer, excess))?;
        }
        Ok(tally)
    }

    fn add_rouge(&mut self, pair: &Pair, metrics: &[Metric], stemming: Stemming) -> Result<(), (Metric, Excess)> {
        let wants = |metric| metrics.contains(&metric);
        let (by_ngrams, longest, summary) =
            (wants(Metric::Rouge1) || wants(Metric::Rouge2), wants(Metric::RougeL), wants(Metric::RougeLsum));
        if !(by_ngrams || longest || summary) {
            return Ok(());
        }
        let texts = Texts::new(&pair.candidate, &pair.references, stemming);
        if by_ngrams {
            [self.rouge[0], self.rouge[1]] = texts.ngrams();
        }
        if longest {
            self.rouge[2] = texts.longest().map_err(|excess| (Metric::RougeL, excess))?;
        }
        if summary {
            self.rouge[3] = texts.summary().map_err(|excess| (Metric::RougeLsum, excess))?;
        }
        Ok(())
    }

    /// The score of one metric; `orders` are those of BLEU.
    pub(crate) fn score(&self, metric: Metric, orders: Orders) -> Score {
        let pairs = self.pairs as f64;
        match metric {
            Metric::Bleu => Score::Number(self.bleu.score(orders)),
            Metric::Chrf => Score::Number(self.chrf.score()),
            Metric::ChrfWords => Score::Number(self.chrf_words.score()),
            Metric::Ter => Score::Number(self.ter.score()),
            Metric::Rouge1 => Score::Rouge(self.rouge[0].over(pairs)),
            Metric::Rouge2 => Score::Rouge(self.rouge[1].over(pairs)),
            Metric::RougeL => Score::Rouge(self.rouge[2].over(pairs)),
            Metric::RougeLsum => Score::Rouge(self.rouge[3].over(pairs)),
            Metric::ExactMatch => Score::Number(self.answer.exact / pairs),
            Metric::F1 => Score::Number(self.answer.f1 / pairs),
            Metric::Levenshtein => Score::Count(self.levenshtein),
            Metric::Wer => Score::Number(self.words.value()),
            Metric::Cer => Score::Number(self.characters.value()),
        }
    }
}
