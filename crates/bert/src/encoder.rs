//! The model itself: from ids of tokens to their embeddings in context.
//!
//! The same as `BertModel` of the library transformers, for texts of different lengths without padding.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor, bail};

use crate::batch::Batch;
use crate::config::Config;
use crate::kernels::{AddNorm, Gelu, MergeHeads, Normalise, Softmax, SplitHeads};

pub(crate) struct Encoder {
    words: Tensor,
    /// With the type of a first text added, as there is no other.
    positions: Tensor,
    norm: AddNorm,
    layers: Vec<Layer>,
}

struct Layer {
    /// Queries, keys and values in one.
    attention: Tensor,
    attention_bias: Vec<f32>,
    heads: usize,
    attended: Tensor,
    attended_norm: AddNorm,
    up: Tensor,
    gelu: Gelu,
    down: Tensor,
    down_norm: AddNorm,
}

impl Encoder {
    pub(crate) fn new(config: &Config, weights: &HashMap<String, Tensor>) -> Result<Encoder> {
        let weights = Weights { all: weights, prefix: String::new() };
        let embeddings = weights.of("embeddings");
        let words = embeddings.tensor("word_embeddings.weight")?;
        let kind = embeddings.tensor("token_type_embeddings.weight")?.narrow(0, 0, 1)?;
        let positions = embeddings.tensor("position_embeddings.weight")?.broadcast_add(&kind)?;
        if positions.dim(0)? < config.max_position_embeddings {
            bail!("max_position_embeddings is {}, but there are {}", config.max_position_embeddings, positions.dim(0)?);
        }
        let no_bias = vec![0.0; words.dim(1)?];
        let norm = embeddings.norm("LayerNorm", no_bias, config)?;
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::new(config, &weights.of(&format!("encoder.layer.{index}"))))
            .collect::<Result<_>>()?;
        Ok(Encoder { words, positions, norm, layers })
    }

    pub(crate) fn layers(&self) -> usize {
        self.layers.len()
    }

    /// The embedding of each token after so many layers, of length one: `[tokens, width]`.
    pub(crate) fn embed(&self, batch: &Batch, layers: usize) -> Result<Tensor> {
        let ids = Tensor::new(batch.ids.as_slice(), &Device::Cpu)?;
        let places = Tensor::new(batch.positions(), &Device::Cpu)?;
        let mut states = self.words.index_select(&ids, 0)?;
        states.inplace_op2(&self.positions.index_select(&places, 0)?, &self.norm)?;
        for layer in &self.layers[..layers] {
            states = layer.forward(&states, batch)?;
        }
        states.inplace_op1(&Normalise { width: states.dim(1)? })?;
        Ok(states)
    }
}

impl Layer {
    fn new(config: &Config, weights: &Weights) -> Result<Layer> {
        let heads = config.num_attention_heads;
        let parts = ["query", "key", "value"].map(|part| weights.linear(&format!("attention.self.{part}")));
        let (mut products, mut biases): (Vec<_>, Vec<_>) = parts.into_iter().collect::<Result<Vec<_>>>()?.into_iter().unzip();
        let width = biases[0].len();
        if heads == 0 || width % heads != 0 {
            bail!("num_attention_heads is {heads}, which does not divide the {width} numbers of a token");
        }
        // What attention is to be scaled by, once instead of for every text.
        let scale = 1.0 / ((width / heads) as f64).sqrt();
        products[0] = (&products[0] * scale)?;
        biases[0].iter_mut().for_each(|bias| *bias *= scale as f32);

        let (attended, attended_bias) = weights.linear("attention.output.dense")?;
        let (up, up_bias) = weights.linear("intermediate.dense")?;
        let (down, down_bias) = weights.linear("output.dense")?;
        Ok(Layer {
            attention: Tensor::cat(&products, 1)?,
            attention_bias: biases.concat(),
            heads,
            attended,
            attended_norm: weights.norm("attention.output.LayerNorm", attended_bias, config)?,
            up,
            gelu: Gelu { bias: up_bias },
            down,
            down_norm: weights.norm("output.LayerNorm", down_bias, config)?,
        })
    }

    fn forward(&self, states: &Tensor, batch: &Batch) -> Result<Tensor> {
        let attended = self.attend(states, batch)?.matmul(&self.attended)?;
        attended.inplace_op2(states, &self.attended_norm)?;
        let up = attended.matmul(&self.up)?;
        up.inplace_op1(&self.gelu)?;
        let down = up.matmul(&self.down)?;
        down.inplace_op2(&attended, &self.down_norm)?;
        Ok(down)
    }

    /// What each token takes from the others of its text, `[tokens, width]`: texts of one length at a time.
    fn attend(&self, states: &Tensor, batch: &Batch) -> Result<Tensor> {
        let (tokens, width) = states.dims2()?;
        let size = width / self.heads;
        let split = SplitHeads { lengths: &batch.lengths, size, bias: &self.attention_bias };
        let split = states.matmul(&self.attention)?.apply_op1_no_bwd(&split)?.reshape((3, tokens * width))?;
        let mut begin = 0;
        let mut found = Vec::new();
        for (texts, length) in batch.runs() {
            let numbers = texts * length * width;
            let part = |part: usize| split.get(part)?.narrow(0, begin, numbers)?.reshape((texts * self.heads, length, size));
            let attention = part(0)?.matmul(&part(1)?.t()?)?;
            attention.inplace_op1(&Softmax { width: length })?;
            found.push(attention.matmul(&part(2)?)?.flatten_all()?);
            begin += numbers;
        }
        Tensor::cat(&found, 0)?.apply_op1_no_bwd(&MergeHeads { lengths: &batch.lengths, size, width })
    }
}

/// The weights below a name.
struct Weights<'a> {
    all: &'a HashMap<String, Tensor>,
    prefix: String,
}

impl<'a> Weights<'a> {
    fn of(&self, name: &str) -> Weights<'a> {
        Weights { all: self.all, prefix: format!("{}{name}.", self.prefix) }
    }

    /// With 32 bits for each number; models saved for a task have `bert.` before their names.
    fn tensor(&self, name: &str) -> Result<Tensor> {
        let name = format!("{}{name}", self.prefix);
        match self.all.get(&name).or_else(|| self.all.get(&format!("bert.{name}"))) {
            Some(tensor) => tensor.to_dtype(DType::F32),
            None => bail!("{name} is missing"),
        }
    }

    fn numbers(&self, name: &str) -> Result<Vec<f32>> {
        self.tensor(name)?.to_vec1()
    }

    /// What is multiplied by, `[from, to]`, and what is added then.
    fn linear(&self, name: &str) -> Result<(Tensor, Vec<f32>)> {
        let (product, bias) = (self.of(name).tensor("weight")?.t()?, self.of(name).numbers("bias")?);
        if bias.is_empty() || product.dim(1)? != bias.len() {
            bail!("{}{name} has {} numbers to add to {}", self.prefix, bias.len(), product.dim(1)?);
        }
        Ok((product, bias))
    }

    /// Names of old models are those of the original program.
    fn norm(&self, name: &str, bias: Vec<f32>, config: &Config) -> Result<AddNorm> {
        let norm = self.of(name);
        let scale = norm.numbers("weight").or_else(|error| norm.numbers("gamma").map_err(|_| error))?;
        let shift = norm.numbers("bias").or_else(|error| norm.numbers("beta").map_err(|_| error))?;
        if bias.is_empty() || (scale.len(), shift.len()) != (bias.len(), bias.len()) {
            bail!("{}{name} is of {} and {} numbers instead of {}", self.prefix, scale.len(), shift.len(), bias.len());
        }
        Ok(AddNorm { bias, scale, shift, eps: config.layer_norm_eps })
    }
}
