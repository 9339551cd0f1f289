//! Synthetic worlds: thirteen families of how models may be loaded, from a seed.
//!
//! Independent draws, small or large models popular, drift, scans, sessions, releases, day and
//! night, bursts, one-hit wonders, loops, abrupt changes, and mixtures.

use speedloader_policy::{Trace, TraceLoad};

/// splitmix64: the same everywhere, for ever.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
    fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }
    fn shuffled(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for at in (1..n).rev() {
            order.swap(at, self.below(at as u64 + 1) as usize);
        }
        order
    }
}

/// Draws an index with the given weights.
struct Weights(Vec<f64>);

impl Weights {
    fn new(weights: impl IntoIterator<Item = f64>) -> Self {
        let mut sum = 0.0;
        Self(
            weights
                .into_iter()
                .map(|w| {
                    sum += w;
                    sum
                })
                .collect(),
        )
    }
    fn zipf(n: usize, exponent: f64) -> Self {
        Self::new((1..=n).map(|rank| (rank as f64).powf(-exponent)))
    }
    fn pick(&self, dice: &mut Dice) -> usize {
        let at = dice.unit() * self.0.last().copied().unwrap_or(0.0);
        self.0
            .partition_point(|&sum| sum <= at)
            .min(self.0.len() - 1)
    }
}

/// A world in the making: sizes of its objects and the sequence of loads.
struct World {
    bytes: Vec<f64>,
    loads: Vec<usize>,
}

/// What all families share.
struct Base {
    n: usize,
    wanted: usize,
    exponent: f64,
    order: Vec<usize>,
    weights: Weights,
    bytes: Vec<f64>,
}

fn sizes(dice: &mut Dice, n: usize) -> Vec<f64> {
    let kind = dice.below(3);
    let tags = [
        0.6, 1.0, 2.0, 4.1, 4.9, 7.4, 9.0, 13.0, 20.0, 26.0, 43.0, 70.0,
    ];
    let one = |dice: &mut Dice| match kind {
        0 => (5e9f64.ln() + 1.3 * dice.normal()).exp(),
        1 if dice.unit() < 0.35 => 3e9 + 27e9 * dice.unit(),
        1 => (1.5e8f64.ln() + 0.8 * dice.normal()).exp(),
        _ => dice.one_of(&tags) * 1e9 * (0.9 + 0.2 * dice.unit()),
    };
    (0..n).map(|_| one(dice).clamp(2e7, 1.6e11)).collect()
}

fn base(dice: &mut Dice, wanted: usize) -> Base {
    let n = dice.one_of(&[250, 500, 900]);
    let exponent = dice.one_of(&[0.6, 0.8, 1.0, 1.2]);
    let (bytes, order) = (sizes(dice, n), dice.shuffled(n));
    Base {
        n,
        wanted,
        exponent,
        order,
        weights: Weights::zipf(n, exponent),
        bytes,
    }
}

/// Draws the loads of a family.
type Family = fn(&mut Dice, &Base) -> Vec<usize>;

const FAMILIES: [(&str, Family); 10] = [
    ("irm", independent),
    ("smallpop", |dice, base| by_size(dice, base, 1.0)),
    ("bigpop", |dice, base| by_size(dice, base, -1.0)),
    ("drift", drift),
    ("scan", scan),
    ("sessions", sessions),
    ("release", release),
    ("daynight", day_and_night),
    ("burst", burst),
    ("loop", in_a_loop),
];

/// Every family with this seed.
pub fn all(seed: u64) -> Vec<(String, Trace)> {
    let mut traces = Vec::new();
    for (at, (name, family)) in FAMILIES.into_iter().enumerate() {
        let dice = &mut Dice::new(1000 * seed + at as u64);
        let wanted = dice.one_of(&[15_000, 30_000]);
        let base = base(dice, wanted);
        let loads = family(dice, &base);
        traces.push((
            format!("{name}_{seed}"),
            timed(
                dice,
                World {
                    bytes: base.bytes,
                    loads,
                },
            ),
        ));
    }
    for (at, (name, family)) in [
        ("onehit", one_hit as fn(&mut Dice, usize) -> World),
        ("steps", steps),
        ("mix", mixture),
    ]
    .into_iter()
    .enumerate()
    {
        let dice = &mut Dice::new(1000 * seed + 100 + at as u64);
        let wanted = dice.one_of(&[15_000, 30_000]);
        let world = family(dice, wanted);
        traces.push((format!("{name}_{seed}"), timed(dice, world)));
    }
    traces
}

/// Gives loads times with a daily rhythm, and objects names.
fn timed(dice: &mut Dice, world: World) -> Trace {
    let mut trace = Trace::default();
    let mut number = vec![None; world.bytes.len()];
    let mut secs = 0.0f64;
    for object in world.loads {
        let hour = secs / 3600.0 % 24.0;
        let rhythm = 1.0 + 0.8 * ((hour - 8.0) / 24.0 * std::f64::consts::TAU).sin();
        let known = *number[object].get_or_insert_with(|| {
            trace.names.push(format!("o{object}"));
            trace.sizes.push(world.bytes[object] as u64);
            trace.names.len() as u32 - 1
        });
        trace.loads.push(TraceLoad {
            object: known,
            family: known + 1,
            bytes: world.bytes[object] as u64,
            at_secs: secs as u64,
        });
        secs += dice.exponential() * 200.0 / rhythm;
    }
    trace
}

fn independent(dice: &mut Dice, base: &Base) -> Vec<usize> {
    (0..base.wanted)
        .map(|_| base.order[base.weights.pick(dice)])
        .collect()
}

fn by_size(dice: &mut Dice, base: &Base, sign: f64) -> Vec<usize> {
    let noise = dice.one_of(&[0.3, 1.0]);
    let mut keyed: Vec<(f64, usize)> = base
        .bytes
        .iter()
        .enumerate()
        .map(|(at, bytes)| (sign * bytes.ln() + noise * dice.normal(), at))
        .collect();
    keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
    (0..base.wanted)
        .map(|_| keyed[base.weights.pick(dice)].1)
        .collect()
}

fn drift(dice: &mut Dice, base: &Base) -> Vec<usize> {
    let spread = dice.one_of(&[0.1, 0.25, 0.5]);
    let mut logs: Vec<f64> = (1..=base.n)
        .map(|rank| -base.exponent * (rank as f64).ln())
        .collect();
    let mut loads = Vec::new();
    while loads.len() < base.wanted {
        let weights = Weights::new(logs.iter().map(|log| log.exp()));
        loads.extend((0..500).map(|_| base.order[weights.pick(dice)]));
        logs.iter_mut()
            .for_each(|log| *log = 0.99 * *log + spread * dice.normal());
    }
    loads
}

fn scan(dice: &mut Dice, base: &Base) -> Vec<usize> {
    let (between, length) = (
        dice.one_of(&[1500, 4000]),
        dice.one_of(&[100, 300]).min(base.n),
    );
    let mut loads = Vec::new();
    while loads.len() < base.wanted {
        loads.extend((0..between).map(|_| base.order[base.weights.pick(dice)]));
        let start = dice.below(base.n as u64) as usize;
        loads.extend((0..length).map(|at| base.order[(start + at) % base.n]));
    }
    loads.truncate(base.wanted);
    loads
}

fn sessions(dice: &mut Dice, base: &Base) -> Vec<usize> {
    let users = dice.one_of(&[30usize, 120]);
    let redraw = dice.one_of(&[0.002, 0.01]);
    let draw = |dice: &mut Dice| -> Vec<usize> {
        (0..=dice.below(5))
            .map(|_| base.order[base.weights.pick(dice)])
            .collect()
    };
    let mut favourites: Vec<Vec<usize>> = (0..users).map(|_| draw(dice)).collect();
    let mut active: Vec<(usize, usize)> = (0..12)
        .map(|_| (dice.below(users as u64) as usize, dice.below(9) as usize))
        .collect();
    let diligence = Weights::new((0..users).map(|_| dice.exponential()));
    let mut loads = Vec::new();
    while loads.len() < base.wanted {
        let at = dice.below(active.len() as u64) as usize;
        let (user, choice) = active[at];
        if dice.unit() < 0.1 {
            active[at] = (diligence.pick(dice), dice.below(9) as usize);
            continue;
        }
        if dice.unit() < redraw {
            favourites[user] = draw(dice);
        }
        loads.push(favourites[user][choice % favourites[user].len()]);
    }
    loads
}

fn release(dice: &mut Dice, base: &Base) -> Vec<usize> {
    let wanted = base.wanted as f64;
    let born: Vec<f64> = (0..base.n)
        .map(|_| wanted * (1.5 * dice.unit() - 0.5))
        .collect();
    let quality: Vec<f64> = (0..base.n).map(|_| (1.3 * dice.normal()).exp()).collect();
    let (scale, exponent) = (
        dice.one_of(&[300.0, 1500.0, 5000.0]),
        dice.one_of(&[1.0, 1.5]),
    );
    let mut loads = Vec::new();
    while loads.len() < base.wanted {
        let now = loads.len() as f64;
        let weights = Weights::new((0..base.n).map(|at| {
            let age = now - born[at];
            if age < 0.0 {
                0.0
            } else {
                quality[at] * (1.0 + age / scale).powf(-exponent)
            }
        }));
        loads.extend((0..100).map(|_| weights.pick(dice)));
    }
    loads
}

fn day_and_night(dice: &mut Dice, base: &Base) -> Vec<usize> {
    let other = dice.shuffled(base.n);
    let half = dice.one_of(&[300usize, 1000, 2500]);
    (0..base.wanted)
        .map(|at| {
            let order = if (at / half).is_multiple_of(2) {
                &base.order
            } else {
                &other
            };
            order[base.weights.pick(dice)]
        })
        .collect()
}

fn burst(dice: &mut Dice, base: &Base) -> Vec<usize> {
    let mut on: Vec<(usize, u64)> = Vec::new();
    let mut loads = Vec::new();
    while loads.len() < base.wanted {
        if on.len() < dice.one_of(&[10, 40]) {
            let length = 1 + (1.0 - dice.unit()).powf(-1.0 / 1.1) as u64;
            on.push((base.order[base.weights.pick(dice)], length));
        }
        let at = dice.below(on.len() as u64) as usize;
        loads.push(on[at].0);
        on[at].1 = on[at].1.saturating_sub(1);
        if on[at].1 == 0 {
            on.remove(at);
        }
    }
    loads
}

fn in_a_loop(dice: &mut Dice, base: &Base) -> Vec<usize> {
    let (length, share) = (dice.one_of(&[40usize, 120]), dice.one_of(&[0.3, 0.6]));
    let mut at = 0;
    (0..base.wanted)
        .map(|_| {
            if dice.unit() < share {
                at += 1;
                base.order[at % length]
            } else {
                base.order[base.weights.pick(dice)]
            }
        })
        .collect()
}

/// Many objects are loaded once and never again.
fn one_hit(dice: &mut Dice, wanted: usize) -> World {
    let base = base(dice, wanted);
    let share = dice.one_of(&[0.2, 0.5]);
    let once = ((wanted as f64 * share) as usize).min(4000);
    let mut bytes = base.bytes;
    bytes.extend(sizes(dice, once));
    let mut next = base.n;
    let chance = share * (once as f64 / (wanted as f64 * share)).min(1.0);
    let loads = (0..wanted)
        .map(|_| {
            if dice.unit() < chance && next < bytes.len() {
                next += 1;
                next - 1
            } else {
                base.order[base.weights.pick(dice)]
            }
        })
        .collect();
    World { bytes, loads }
}

/// Four quarters, each with another popularity; two of them by recency.
fn steps(dice: &mut Dice, wanted: usize) -> World {
    let base = base(dice, wanted);
    let mut loads = Vec::new();
    for quarter in 0..4 {
        let order = dice.shuffled(base.n);
        let exponent = dice.one_of(&[0.6, 0.9, 1.2]);
        let weights = Weights::zipf(base.n, exponent);
        let mut recent: Vec<usize> = Vec::new();
        for _ in 0..wanted / 4 {
            let mut object = order[weights.pick(dice)];
            if quarter % 2 == 0 {
                if !recent.is_empty() && dice.unit() < 0.7 {
                    let depth = ((20.0 * dice.exponential()) as usize).min(recent.len() - 1);
                    object = recent[recent.len() - 1 - depth];
                }
                recent.retain(|&o| o != object);
                recent.push(object);
                if recent.len() > 300 {
                    recent.remove(0);
                }
            }
            loads.push(object);
        }
    }
    World {
        bytes: base.bytes,
        loads,
    }
}

/// A third independent draws, the rest another family, interleaved.
fn mixture(dice: &mut Dice, wanted: usize) -> World {
    let base = base(dice, wanted);
    let other = dice.one_of(&[
        release as fn(&mut Dice, &Base) -> Vec<usize>,
        sessions,
        drift,
    ]);
    let mut rest = other(dice, &base).into_iter();
    let mut steady = independent(dice, &base).into_iter();
    let loads = (0..wanted)
        .filter_map(|_| {
            if dice.unit() < 1.0 / 3.0 {
                steady.next()
            } else {
                rest.next()
            }
        })
        .collect();
    World {
        bytes: base.bytes,
        loads,
    }
}
