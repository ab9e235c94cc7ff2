//! What the repository says to other programs is true of itself.

mod compose;
