//! The forward pass of a batch through the blocks.

use crate::attention::{kv_head, window_start};
use crate::config::Residual;
use crate::kv_cache::KvCache;
use crate::low_rank::{LowRank, LowRankScratch};
use crate::mask::{Choice, InputSite, MaskSource};
use crate::model::{ByInput, Layer, Model, Weight, add_bias};
use crate::norm::Norm;
use crate::probe::{Probe, Site};
use crate::rope::Rope;
use crate::session::Resume;
use fewron_kernels::{
    Activations, AttentionScratch, KvPage, Layout, NeuronMajor, Pool, Query, activate, attend,
    matmul,
};
use std::ops::Range;
use std::sync::Arc;

/// Most queries that are one piece of work.
const QUERIES_OF_A_PIECE: usize = 16;

/// Buffers of a forward pass; kept between passes.
#[derive(Default)]
pub(crate) struct Scratch {
    norm: Vec<f32>,
    input: Activations,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    pub(crate) z: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    /// Outputs of the neurons, `[tokens, intermediate]`; of the kept ones alone if `sparse`.
    pub(crate) post: Vec<f32>,
    /// Whether `post` holds only the neurons in `kept`.
    sparse: bool,
    kept: Vec<u32>,
    /// Activations of one token's gate.
    act: Vec<f32>,
    out: Vec<f32>,
    extra: Extra,
    chosen: ChosenHeads,
    /// Rows of the query projection that run, and their products.
    query_rows: Vec<u32>,
    query_values: Vec<f32>,
    attention: Vec<AttentionScratch>,
    /// The residual stream before attention, where the MLP reads it too.
    before: Vec<f32>,
}

impl Scratch {
    /// Makes `post` hold all neurons, the others with output 0.
    fn spread(&mut self, neurons: usize) {
        if std::mem::take(&mut self.sparse) {
            self.post.resize(neurons, 0.0);
            for (index, &neuron) in self.kept.iter().enumerate().rev() {
                // `kept` ascends: the place lies at or behind that of the value, and what lies behind
                // is done.
                self.post.swap(index, neuron as usize);
            }
        }
    }
}

/// What the mask source adds to an MLP.
#[derive(Default)]
struct Extra {
    /// Tokens that share a map, in order.
    maps: Vec<(Range<usize>, Arc<LowRank>)>,
    /// Predicted scores, `[tokens, intermediate]`.
    scores: Vec<f32>,
    /// What compensates for the neurons that are off, `[tokens, hidden]`.
    compensation: Vec<f32>,
    /// Tokens whose MLP is not dense.
    masked: Vec<bool>,
    /// The compensation of a single token, whose input is reduced with the first product of the MLP and
    /// whose output joins the last one.
    joined: Option<Arc<LowRank>>,
    scratch: LowRankScratch,
}

/// The past of a batch's tokens.
pub(crate) enum Texts<'a> {
    /// The tokens go on one text: they join its cache, later ones see earlier ones.
    Append(&'a mut KvCache),
    /// The tokens are alternatives: each sees the text before its position and itself.
    Alternatives(&'a KvCache),
    /// The tokens go on several texts: those of the first come first, and so on. With the text of each
    /// token.
    Several(&'a mut [KvCache], &'a [usize]),
}

impl Texts<'_> {
    /// Lets the keys and values of a layer join the caches.
    fn extend(&mut self, layer: usize, keys: &[f32], values: &[f32]) {
        match self {
            Texts::Append(cache) => cache.extend(layer, keys, values),
            Texts::Alternatives(_) => {}
            Texts::Several(caches, owners) => {
                let width = caches.first().map_or(1, |cache| cache.shape().width());
                let rows = keys.chunks_exact(width).zip(values.chunks_exact(width));
                for (&owner, (key, value)) in owners.iter().zip(rows) {
                    caches[owner].extend(layer, key, value);
                }
            }
        }
    }

    /// Whether the tokens are in the caches themselves.
    fn appended(&self) -> bool {
        !matches!(self, Texts::Alternatives(_))
    }

    /// Index of a token's text.
    fn owner(&self, token: usize) -> usize {
        match self {
            Texts::Several(_, owners) => owners[token],
            _ => 0,
        }
    }

    fn cache(&self, token: usize) -> &KvCache {
        match self {
            Texts::Append(cache) => cache,
            Texts::Alternatives(cache) => cache,
            Texts::Several(caches, owners) => &caches[owners[token]],
        }
    }

    /// The pages of a token's text.
    fn layer(&self, layer: usize, token: usize) -> &[Arc<KvPage>] {
        self.cache(token).layer(layer)
    }
}

/// The heads of a layer that run.
#[derive(Default)]
struct ChosenHeads {
    /// Ascending `token · heads + head`.
    jobs: Vec<usize>,
    /// Tokens whose heads are chosen by their outputs.
    by_output: Vec<usize>,
    /// The jobs in the order in which they are done, at most [`QUERIES_OF_A_PIECE`] at a time, and
    /// where each such piece of work begins and ends.
    order: Vec<usize>,
    pieces: Vec<Range<usize>>,
    /// What they give, piece after piece.
    out: Vec<f32>,
}

/// One batch on its way through the blocks.
pub(crate) struct Pass<'a> {
    pub(crate) model: &'a Model,
    pub(crate) pool: &'a Pool,
    pub(crate) texts: Texts<'a>,
    /// By [`Layer::rope`].
    pub(crate) ropes: &'a [Rope],
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) positions: &'a [usize],
    /// Index of the batch's first token for the mask source.
    pub(crate) first_token: usize,
    pub(crate) masks: Option<&'a mut dyn MaskSource>,
    pub(crate) probe: Option<&'a mut dyn Probe>,
}

impl Pass<'_> {
    fn observe(&mut self, site: Site, layer: usize, values: &[f32]) {
        if let Some(probe) = self.probe.as_mut()
            && probe.wants(site)
        {
            probe.observe(site, layer, values);
        }
    }

    /// Runs all blocks from `first` on; `x` is the residual stream, `[tokens, hidden]`.
    pub(crate) fn blocks(&mut self, first: usize, x: &mut [f32]) {
        for layer in first..self.model.layers.len() {
            self.block(layer, x);
            self.model.release_layer(layer);
        }
        self.observe(Site::ResidFinal, self.model.layers.len(), x);
    }

    /// Runs one block.
    pub(crate) fn block(&mut self, layer: usize, x: &mut [f32]) {
        self.attention(layer, x);
        self.after_heads(layer, x);
        self.mlp_output(layer, x);
    }

    /// Sets in at `layer` with given neuron or head outputs; `x` is the residual stream there.
    pub(crate) fn resume(&mut self, layer: usize, from: Resume, x: &mut [f32]) {
        match from {
            Resume::Neurons(post) => {
                self.scratch.post.clear();
                self.scratch.post.extend_from_slice(post);
                self.scratch.sparse = false;
                self.scratch.extra.masked.clear();
            }
            Resume::Heads(z) => {
                self.scratch.z.clear();
                self.scratch.z.extend_from_slice(z);
                self.after_heads(layer, x);
            }
        }
        self.mlp_output(layer, x);
        self.blocks(layer + 1, x);
    }

    /// From the heads' outputs to the neurons' outputs.
    fn after_heads(&mut self, layer: usize, x: &mut [f32]) {
        let parallel = self.model.config().residual == Residual::Parallel;
        let mut before = std::mem::take(&mut self.scratch.before);
        if parallel {
            before.clear();
            before.extend_from_slice(x);
        }
        self.attention_output(layer, x);
        self.observe(Site::ResidMid, layer, x);
        self.mlp(layer, if parallel { &before } else { x });
        self.scratch.before = before;
    }

    /// Normalises each row of `x` and prepares it as the input of weights.
    fn normed_input(
        &mut self,
        (site, layer): (InputSite, usize),
        x: &[f32],
        norm: &Norm,
        layouts: impl IntoIterator<Item = Layout>,
    ) {
        let (isa, hidden) = (self.model.isa(), self.model.config().hidden);
        let eps = self.model.config().norm_eps;
        let s = &mut *self.scratch;
        s.norm.resize(x.len(), 0.0);
        self.pool.rows(&mut s.norm[..x.len()], hidden, |token, out| {
            norm.forward(isa, &x[token * hidden..][..hidden], eps, out);
        });
        let normed = &mut s.norm[..x.len()];
        thin(&mut self.masks, self.first_token, site, layer, hidden, normed);
        s.input.set(isa, self.pool, &s.norm, hidden, layouts);
    }

    /// Head outputs of a layer into `scratch.z`, with the heads that are off set to zero.
    fn attention(&mut self, layer: usize, x: &[f32]) {
        let model = self.model;
        let l = &model.layers[layer];
        self.observe(Site::ResidPre, layer, x);
        let layouts = [&l.q_proj, &l.k_proj, &l.v_proj].into_iter().filter_map(Weight::layout);
        self.normed_input((InputSite::Attention, layer), x, &l.attn_norm, layouts);
        let mut heads = std::mem::take(&mut self.scratch.chosen);
        self.choose_heads(layer, &mut heads);
        let s = &mut *self.scratch;
        if self.positions.len() > 1 || heads.jobs.len() == model.config().heads {
            let products = [(&l.q_proj, &mut s.q), (&l.k_proj, &mut s.k), (&l.v_proj, &mut s.v)];
            Weight::forward_each(model, self.pool, &s.input, products);
        } else {
            let products = [(&l.k_proj, &mut s.k), (&l.v_proj, &mut s.v)];
            Weight::forward_each(model, self.pool, &s.input, products);
            self.queries(l, &heads);
        }
        let s = &mut *self.scratch;
        let (mut q, mut k, v) =
            (std::mem::take(&mut s.q), std::mem::take(&mut s.k), std::mem::take(&mut s.v));
        self.observe(Site::QueryPre, layer, &q);
        self.observe(Site::KeyPre, layer, &k);
        let buffer = &mut self.scratch.norm;
        head_norm(model, l.q_norm.as_ref(), buffer, &mut q);
        head_norm(model, l.k_norm.as_ref(), buffer, &mut k);
        let rope = &self.ropes[l.rope];
        rope.rotate(&mut q);
        rope.rotate(&mut k);
        self.observe(Site::Query, layer, &q);
        self.observe(Site::Key, layer, &k);
        self.observe(Site::Value, layer, &v);
        self.texts.extend(layer, &k, &v);
        self.heads(layer, &mut heads, &q, &k, &v);
        self.scratch.chosen = heads;
        (self.scratch.q, self.scratch.k, self.scratch.v) = (q, k, v);
        let z = std::mem::take(&mut self.scratch.z);
        self.observe(Site::HeadOutput, layer, &z);
        self.scratch.z = z;
    }

    /// Asks the mask source which heads run.
    fn choose_heads(&mut self, layer: usize, chosen: &mut ChosenHeads) {
        let heads = self.model.config().heads;
        chosen.jobs.clear();
        chosen.by_output.clear();
        for token in 0..self.positions.len() {
            let all = token * heads..(token + 1) * heads;
            self.scratch.kept.clear();
            let choice = self.masks.as_mut().map_or(Choice::Dense, |masks| {
                masks.heads(layer, self.first_token + token, &mut self.scratch.kept)
            });
            match choice {
                Choice::Dense => chosen.jobs.extend(all),
                Choice::Listed => {
                    let kept = self.scratch.kept.iter();
                    chosen.jobs.extend(kept.map(|&head| all.start + head as usize));
                }
                Choice::ByGate | Choice::ByPrediction | Choice::ByOutput => {
                    chosen.jobs.extend(all);
                    chosen.by_output.push(token);
                }
            }
        }
    }

    /// A single token's queries of the heads that run into `scratch.q`; the others are zero.
    fn queries(&mut self, l: &Layer, heads: &ChosenHeads) {
        let (model, config) = (self.model, self.model.config());
        let s = &mut *self.scratch;
        let dim = config.head_dim;
        let rows = |&head: &usize| (head * dim) as u32..((head + 1) * dim) as u32;
        s.query_rows.clear();
        s.query_rows.extend(heads.jobs.iter().flat_map(rows));
        s.query_values.resize(s.query_rows.len(), 0.0);
        let values = &mut s.query_values;
        l.q_proj.forward_rows(model, self.pool, &s.query_rows, &s.input, values);
        s.q.clear();
        s.q.resize(config.query_width(), 0.0);
        for (&row, &value) in s.query_rows.iter().zip(&*values) {
            s.q[row as usize] = value;
        }
    }

    /// Computes the heads that run; the others' outputs are zero.
    fn heads(&mut self, layer: usize, chosen: &mut ChosenHeads, q: &[f32], k: &[f32], v: &[f32]) {
        let config = self.model.config();
        let (dim, width, kv) = (config.head_dim, config.query_width(), config.kv_width());
        self.scratch.z.clear();
        self.scratch.z.resize(self.positions.len() * width, 0.0);
        let (isa, positions) = (self.model.isa(), self.positions);
        let window = config.layers[layer].window;
        let (texts, shape) = (&self.texts, self.texts.cache(0).shape());
        let own = !self.texts.appended();
        let query = |&job: &usize| {
            let (token, head) = (job / config.heads, job % config.heads);
            let at = token * kv + kv_head(config, head) * dim;
            let position = positions[token];
            let (first, last) = match (own, position) {
                (false, _) => (window_start(window, position), position),
                // None: the first lies behind the last.
                (true, 0) => (1, 0),
                (true, _) => (window_start(window, position), position - 1),
            };
            let own = own.then(|| (&k[at..at + dim], &v[at..at + dim]));
            Query { q: &q[job * dim..][..dim], first, last, own }
        };
        // Queries that see the same keys and values share the reading of their pages: those of the
        // tokens of one text, and of the heads of a group.
        let ChosenHeads { jobs, order, pieces, out, .. } = chosen;
        let pages =
            |job: &usize| (kv_head(config, job % config.heads), texts.owner(job / config.heads));
        order.clear();
        for kv_head in 0..config.kv_heads {
            // The tokens of a text lie together.
            order.extend(jobs.iter().filter(|job| pages(job).0 == kv_head));
        }
        // Pieces for all threads.
        let most = (order.len() / self.pool.threads()).clamp(1, QUERIES_OF_A_PIECE);
        pieces.clear();
        for together in order.chunk_by(|a, b| pages(a) == pages(b)) {
            for piece in together.chunks(most) {
                let start = pieces.last().map_or(0, |last: &Range<usize>| last.end);
                pieces.push(start..start + piece.len());
            }
        }
        out.resize(pieces.len() * most * dim, 0.0);
        let run = |piece: usize, scratch: &mut AttentionScratch, z: &mut [f32]| {
            let jobs = &order[pieces[piece].clone()];
            let queries: [Query; QUERIES_OF_A_PIECE] =
                std::array::from_fn(|index| query(&jobs[index.min(jobs.len() - 1)]));
            let queries = &queries[..jobs.len()];
            let (token, head) = (jobs[0] / config.heads, jobs[0] % config.heads);
            let (pages, head) = (texts.layer(layer, token), kv_head(config, head));
            let z = &mut z[..jobs.len() * dim];
            attend(isa, shape, pages, head, config.attention_scale, queries, scratch, z);
        };
        self.pool.rows_with(out, most * dim, &mut self.scratch.attention, run);
        for (piece, out) in pieces.iter().zip(out.chunks_exact(most * dim)) {
            for (&job, z) in order[piece.clone()].iter().zip(out.chunks_exact(dim)) {
                self.scratch.z[job * dim..][..dim].copy_from_slice(z);
            }
        }
        for &token in &chosen.by_output {
            let z = &mut self.scratch.z[token * width..][..width];
            self.scratch.kept.clear();
            if let Some(masks) = self.masks.as_mut() {
                let kept = &mut self.scratch.kept;
                masks.select_heads(layer, self.first_token + token, z, config.heads, kept);
            }
            keep_only(&self.scratch.kept, dim, z);
        }
    }

    /// Adds the output projection of `scratch.z` to the residual stream.
    pub(crate) fn attention_output(&mut self, layer: usize, x: &mut [f32]) {
        let (model, l) = (self.model, &self.model.layers[layer]);
        let s = &mut *self.scratch;
        let layout = l.o_proj.weights.layout();
        let width = model.config().query_width();
        thin(&mut self.masks, self.first_token, InputSite::AttentionOutput, layer, width, &mut s.z);
        s.input.set(model.isa(), self.pool, &s.z, width, layout);
        self.by_input(&l.o_proj, x.len());
        self.join(Site::AttentionOut, layer, l.attn_post_norm.as_ref(), x);
    }

    /// The product of `scratch.input` into `scratch.out`, which has `len` elements.
    fn by_input(&mut self, w: &ByInput, len: usize) {
        let s = &mut *self.scratch;
        s.out.resize(len, 0.0);
        w.weights.forward(self.model.isa(), self.pool, &s.input, &mut s.out);
        w.add_bias(&mut s.out);
    }

    /// Observes `scratch.out`, normalises it where the model does, and adds it to `x`.
    fn join(&mut self, site: Site, layer: usize, post_norm: Option<&Norm>, x: &mut [f32]) {
        let out = std::mem::take(&mut self.scratch.out);
        self.observe(site, layer, &out);
        let config = self.model.config();
        if let Some(norm) = post_norm {
            self.scratch.norm.resize(config.hidden, 0.0);
            let normed = &mut self.scratch.norm[..config.hidden];
            for (x, out) in x.chunks_exact_mut(config.hidden).zip(out.chunks_exact(config.hidden)) {
                norm.forward(self.model.isa(), out, config.norm_eps, normed);
                x.iter_mut().zip(&*normed).for_each(|(x, y)| *x += y);
            }
        } else {
            x.iter_mut().zip(&out).for_each(|(x, y)| *x += y);
        }
        self.scratch.out = out;
    }

    /// Neuron outputs of a layer into `scratch.post`; `x` is the residual stream that the MLP reads.
    fn mlp(&mut self, layer: usize, x: &[f32]) {
        let l = &self.model.layers[layer];
        self.scratch.sparse = false;
        let extra = &mut self.scratch.extra;
        extra.masked.clear();
        extra.compensation.clear();
        let single = self.positions.len() == 1;
        let choice = if single { self.neuron_choice(layer, 0) } else { Choice::Dense };
        let map = self.masks.as_mut().filter(|_| choice != Choice::Dense);
        let map = map.and_then(|masks| masks.compensation(layer, self.first_token));
        let weights = l.mlp.gate_proj.iter().chain([&l.mlp.up_proj]).filter_map(Weight::layout);
        let layouts = weights.chain(map.as_ref().and_then(|map| map.first().layout()));
        self.normed_input((InputSite::Mlp, layer), x, l.mlp_norm(), layouts);
        let input = std::mem::take(&mut self.scratch.norm);
        self.observe(Site::MlpInput, layer, &input[..x.len()]);
        self.scratch.norm = input;
        if single {
            match choice {
                Choice::ByGate => self.gated_neurons(layer, l, map.as_deref()),
                Choice::Listed => self.listed_neurons(l),
                Choice::ByPrediction => {
                    self.predict(layer);
                    self.choose_predicted(layer, 0);
                    self.listed_neurons(l);
                }
                choice => {
                    self.dense_neurons(layer, l);
                    self.drop_neurons(layer, 0, choice);
                }
            }
            if let Some(map) = map.as_ref().filter(|_| choice != Choice::ByGate) {
                self.reduce(map);
            }
            self.scratch.extra.joined = map;
        } else {
            self.dense_neurons(layer, l);
            self.predict(layer);
            for token in 0..self.positions.len() {
                let choice = self.neuron_choice(layer, token);
                self.drop_neurons(layer, token, choice);
            }
            self.compensate(layer);
        }
        self.observe_neurons(layer);
    }

    /// Reduces the MLP's input by a map.
    fn reduce(&mut self, map: &LowRank) {
        let s = &mut *self.scratch;
        let reduced = s.extra.scratch.reduced(map, 1);
        matmul(self.model.isa(), self.pool, &map.first(), &s.input, reduced);
    }

    /// Maps the MLP's inputs by what `map_of` gives for each token into `out`, `[tokens, width]`, whose
    /// rows are left as they are for tokens without a map.
    fn map_inputs(
        &mut self,
        map_of: impl Fn(&mut dyn MaskSource, usize) -> Option<Arc<LowRank>>,
        width: usize,
        out: &mut Vec<f32>,
    ) {
        let Some(masks) = self.masks.as_deref_mut() else { return };
        let Extra { maps, scratch, .. } = &mut self.scratch.extra;
        maps.clear();
        for token in 0..self.positions.len() {
            let Some(map) = map_of(masks, self.first_token + token) else { continue };
            match maps.last_mut() {
                Some((range, last)) if range.end == token && Arc::ptr_eq(last, &map) => {
                    range.end = token + 1;
                }
                _ => maps.push((token..token + 1, map)),
            }
        }
        if maps.is_empty() {
            return;
        }
        out.resize(self.positions.len() * width, 0.0);
        let (isa, hidden) = (self.model.isa(), self.model.config().hidden);
        for (tokens, map) in maps {
            let x = &self.scratch.norm[tokens.start * hidden..tokens.end * hidden];
            let out = &mut out[tokens.start * width..tokens.end * width];
            map.forward(isa, self.pool, x, scratch, out);
        }
    }

    /// Predicted scores of the neurons, for the tokens that have a predictor.
    fn predict(&mut self, layer: usize) {
        let mut scores = std::mem::take(&mut self.scratch.extra.scores);
        let neurons = self.model.config().intermediate;
        self.map_inputs(|masks, token| masks.predictor(layer, token), neurons, &mut scores);
        self.scratch.extra.scores = scores;
    }

    /// Lets the mask source choose neurons by their predicted scores.
    fn choose_predicted(&mut self, layer: usize, token: usize) {
        let n = self.model.config().intermediate;
        let s = &mut *self.scratch;
        if let Some(masks) = self.masks.as_mut() {
            let scores = &s.extra.scores[token * n..][..n];
            masks.select_neurons(layer, self.first_token + token, scores, &mut s.kept);
        }
    }

    /// What compensates for neurons that are off, where any are.
    fn compensate(&mut self, layer: usize) {
        if !self.scratch.extra.masked.contains(&true) {
            return;
        }
        let mut out = std::mem::take(&mut self.scratch.extra.compensation);
        let hidden = self.model.config().hidden;
        self.map_inputs(|masks, token| masks.compensation(layer, token), hidden, &mut out);
        self.scratch.extra.compensation = out;
    }

    /// Asks the mask source which neurons run. Without a gate, a choice by it is one by the outputs.
    fn neuron_choice(&mut self, layer: usize, token: usize) -> Choice {
        self.scratch.kept.clear();
        let choice = self.masks.as_mut().map_or(Choice::Dense, |masks| {
            masks.neurons(layer, self.first_token + token, &mut self.scratch.kept)
        });
        self.scratch.extra.masked.push(choice != Choice::Dense);
        match choice {
            Choice::ByGate if !self.model.config().gated => Choice::ByOutput,
            choice => choice,
        }
    }

    fn observe_neurons(&mut self, layer: usize) {
        let s = &mut *self.scratch;
        if s.sparse {
            if self.probe.as_ref().is_some_and(|probe| probe.wants(Site::NeuronOutput)) {
                let mut all = vec![0.0; self.model.config().intermediate];
                s.kept.iter().zip(&s.post).for_each(|(&i, &o)| all[i as usize] = o);
                self.observe(Site::NeuronOutput, layer, &all);
            }
        } else {
            let post = std::mem::take(&mut s.post);
            self.observe(Site::NeuronOutput, layer, &post);
            self.scratch.post = post;
        }
    }

    /// act(gate) · up, or act(up), for every neuron.
    fn dense_neurons(&mut self, layer: usize, l: &Layer) {
        let (model, activation) = (self.model, self.model.config().activation);
        let (isa, neurons) = (model.isa(), model.config().intermediate);
        let s = &mut *self.scratch;
        let tokens = self.positions.len();
        s.post.resize(tokens * neurons, 0.0);
        match &l.mlp.gate_proj {
            Some(gate_proj) => {
                let products = [(gate_proj, &mut s.gate), (&l.mlp.up_proj, &mut s.up)];
                Weight::forward_each(model, self.pool, &s.input, products);
                let (gate, up) = (&s.gate, &s.up);
                self.pool.rows(&mut s.post, neurons, |token, post| {
                    let row = token * neurons..(token + 1) * neurons;
                    activate(isa, activation, &gate[row.clone()], post);
                    post.iter_mut().zip(&up[row]).for_each(|(h, up)| *h *= up);
                });
                let gate = std::mem::take(&mut s.gate);
                self.observe(Site::Gate, layer, &gate);
                self.scratch.gate = gate;
            }
            None => {
                l.mlp.up_proj.forward(model, self.pool, &s.input, &mut s.up);
                let up = &s.up;
                self.pool.rows(&mut s.post, neurons, |token, post| {
                    activate(isa, activation, &up[token * neurons..][..neurons], post);
                });
            }
        }
        let up = std::mem::take(&mut self.scratch.up);
        self.observe(Site::Up, layer, &up);
        self.scratch.up = up;
    }

    /// Sets the outputs of neurons that are off to zero, for a token that ran dense.
    fn drop_neurons(&mut self, layer: usize, token: usize, choice: Choice) {
        let (isa, config) = (self.model.isa(), self.model.config());
        let n = config.intermediate;
        if choice == Choice::ByPrediction {
            self.choose_predicted(layer, token);
        }
        let s = &mut *self.scratch;
        let index = self.first_token + token;
        let Some(masks) = self.masks.as_mut() else { return };
        match choice {
            Choice::Dense => return,
            Choice::Listed | Choice::ByPrediction => {}
            Choice::ByGate => {
                s.act.resize(n, 0.0);
                activate(isa, config.activation, &s.gate[token * n..][..n], &mut s.act);
                masks.select_neurons(layer, index, &s.act, &mut s.kept);
            }
            Choice::ByOutput => {
                masks.select_neurons(layer, index, &s.post[token * n..][..n], &mut s.kept);
            }
        }
        keep_only(&s.kept, 1, &mut s.post[token * n..][..n]);
    }

    /// act(gate) · up, or act(up), for the neurons in `kept` alone.
    fn listed_neurons(&mut self, l: &Layer) {
        let (model, s) = (self.model, &mut *self.scratch);
        let (isa, activation, count) = (model.isa(), model.config().activation, s.kept.len());
        for buffer in [&mut s.gate, &mut s.up, &mut s.post] {
            buffer.resize(count, 0.0);
        }
        l.mlp.up_proj.forward_rows(model, self.pool, &s.kept, &s.input, &mut s.up);
        if let Some(gate_proj) = &l.mlp.gate_proj {
            gate_proj.forward_rows(model, self.pool, &s.kept, &s.input, &mut s.gate);
            activate(isa, activation, &s.gate, &mut s.post);
            s.post.iter_mut().zip(&s.up).for_each(|(h, up)| *h *= up);
        } else {
            activate(isa, activation, &s.up, &mut s.post);
        }
        s.sparse = true;
    }

    /// The gate for every neuron, and the reduced input of a map, then up for the neurons that the mask
    /// source keeps.
    fn gated_neurons(&mut self, layer: usize, l: &Layer, map: Option<&LowRank>) {
        let (model, s) = (self.model, &mut *self.scratch);
        let isa = model.isa();
        let gate_proj =
            l.mlp.gate_proj.as_ref().expect("chosen by the gate of an MLP that has one");
        let map = map.map(|map| (map.first(), s.extra.scratch.reduced(map, 1)));
        gate_proj.forward_with(model, self.pool, &s.input, &mut s.gate, map);
        s.post.resize(s.gate.len(), 0.0);
        activate(isa, model.config().activation, &s.gate, &mut s.post);
        if let Some(masks) = self.masks.as_mut() {
            masks.select_neurons(layer, self.first_token, &s.post, &mut s.kept);
        }
        s.up.resize(s.kept.len(), 0.0);
        l.mlp.up_proj.forward_rows(model, self.pool, &s.kept, &s.input, &mut s.up);
        for (index, &neuron) in s.kept.iter().enumerate() {
            // `kept` ascends, so the place written lies at or before the one read.
            s.post[index] = s.post[neuron as usize] * s.up[index];
        }
        s.post.truncate(s.kept.len());
        s.sparse = true;
    }

    /// The down projection of `scratch.input`, and what compensates for neurons that are off, into
    /// `scratch.out`.
    fn down(&mut self, down: &ByInput, len: usize) {
        let (isa, pool, hidden) = (self.model.isa(), self.pool, self.model.config().hidden);
        let s = &mut *self.scratch;
        let Extra { compensation, joined, scratch, .. } = &mut s.extra;
        if let Some(map) = joined.take() {
            s.out.resize(len, 0.0);
            compensation.resize(len, 0.0);
            let reduced = scratch.second_input(isa, pool, &map);
            let products = [
                (&down.weights, &s.input, &mut s.out[..]),
                (map.second(), reduced, &mut compensation[..]),
            ];
            NeuronMajor::forward_each(isa, pool, products);
            down.add_bias(&mut s.out);
            add_bias(map.bias(), compensation);
        } else {
            self.by_input(down, len);
        }
        let s = &mut *self.scratch;
        let Extra { masked, compensation, .. } = &s.extra;
        let rows = s.out.chunks_exact_mut(hidden).zip(compensation.chunks_exact(hidden));
        for ((out, add), _) in rows.zip(masked).filter(|(_, masked)| **masked) {
            out.iter_mut().zip(add).for_each(|(out, add)| *out += add);
        }
    }

    /// Adds the down projection of `scratch.post` to the residual stream.
    pub(crate) fn mlp_output(&mut self, layer: usize, x: &mut [f32]) {
        let (isa, l) = (self.model.isa(), &self.model.layers[layer]);
        let s = &mut *self.scratch;
        let neurons = self.model.config().intermediate;
        let layout = l.mlp.down_proj.weights.layout();
        let first = self.first_token;
        if self
            .masks
            .as_mut()
            .is_some_and(|masks| (0..self.positions.len()).any(|token| masks.thins(first + token)))
        {
            s.spread(neurons);
            let post = &mut s.post;
            thin(&mut self.masks, self.first_token, InputSite::Down, layer, neurons, post);
        }
        if s.sparse {
            s.input.set_sparse(isa, self.pool, &s.kept, &s.post, neurons, layout);
        } else {
            s.input.set(isa, self.pool, &s.post, neurons, layout);
        }
        self.down(&l.mlp.down_proj, x.len());
        self.join(Site::MlpOut, layer, l.mlp_post_norm.as_ref(), x);
    }
}

/// Lets the mask source thin the input of a product, `[tokens, width]`.
fn thin(
    masks: &mut Option<&mut dyn MaskSource>,
    first_token: usize,
    site: InputSite,
    layer: usize,
    width: usize,
    values: &mut [f32],
) {
    let Some(masks) = masks.as_mut() else { return };
    for (values, token) in values.chunks_exact_mut(width).zip(first_token..) {
        if masks.thins(token) {
            masks.thin(site, layer, token, values);
        }
    }
}

/// Norm of each head.
fn head_norm(model: &Model, norm: Option<&Norm>, buffer: &mut Vec<f32>, x: &mut [f32]) {
    let Some(norm) = norm else { return };
    let config = model.config();
    buffer.resize(buffer.len().max(config.head_dim), 0.0);
    let out = &mut buffer[..config.head_dim];
    for head in x.chunks_exact_mut(config.head_dim) {
        norm.forward(model.isa(), head, config.norm_eps, out);
        head.copy_from_slice(out);
    }
}

/// Sets every unit of `width` values to zero that is not in the ascending list `kept`.
fn keep_only(kept: &[u32], width: usize, values: &mut [f32]) {
    let mut kept = kept.iter().peekable();
    for (unit, values) in values.chunks_exact_mut(width).enumerate() {
        if kept.next_if(|&&k| k as usize == unit).is_none() {
            values.fill(0.0);
        }
    }
}
