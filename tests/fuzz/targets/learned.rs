//! What the policy has learned, as it is saved: contents that are impossible, behind a checksum that is right.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use speedloader_policy::{Learned, Load, ModelId, Params, TierId, Tiers};

/// Magic and version, which stay; behind them comes the length.
const HEAD_BYTES: usize = 12;
/// What follows the tables of an empty state: no models, the speed of the homes, no pools, who leads, no experts.
const REST_BYTES: usize = 8 + 8 + 8 + 1 + 8;
const CHECKSUM_BYTES: usize = 8;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    loads: u64,
    aged: f64,
    /// Observations that differ from none: where, and what.
    events: Vec<(u16, f64)>,
    models: Vec<(u64, u64, u64, [f64; 3], [f32; 2], u8)>,
    cold_bytes_per_sec: u64,
    pools: Vec<(u16, u64, u64)>,
    leader: u8,
    experts: Vec<(u8, [f64; 4], &'a [u8])>,
    /// Places and whatever else comes behind.
    rest: &'a [u8],
}

/// An empty state as it is saved.
fn empty() -> &'static [u8] {
    static EMPTY: OnceLock<Vec<u8>> = OnceLock::new();
    EMPTY.get_or_init(|| Learned::new().to_bytes())
}

fn payload(input: &Input<'_>) -> Vec<u8> {
    let empty = empty();
    let tables = HEAD_BYTES + 8 + 16..empty.len() - CHECKSUM_BYTES - REST_BYTES;
    let mut out = Vec::new();
    out.extend(input.loads.to_le_bytes());
    out.extend(input.aged.to_bits().to_le_bytes());
    out.extend(&empty[tables.clone()]);
    for (at, event) in &input.events {
        let at = 16 + 8 * (usize::from(*at) % (tables.len() / 8));
        out[at..at + 8].copy_from_slice(&event.to_bits().to_le_bytes());
    }
    out.extend((input.models.len() as u64).to_le_bytes());
    for (id, bytes, last_load, heats, rhythm, set_aside) in &input.models {
        for number in [id, bytes, last_load] {
            out.extend(number.to_le_bytes());
        }
        heats
            .iter()
            .for_each(|heat| out.extend(heat.to_bits().to_le_bytes()));
        rhythm
            .iter()
            .for_each(|count| out.extend(count.to_bits().to_le_bytes()));
        out.push(*set_aside);
    }
    out.extend(input.cold_bytes_per_sec.to_le_bytes());
    out.extend((input.pools.len() as u64).to_le_bytes());
    for (id, speed, capacity) in &input.pools {
        out.extend(id.to_le_bytes());
        out.extend(speed.to_le_bytes());
        out.extend(capacity.to_le_bytes());
    }
    out.push(input.leader);
    out.extend((input.experts.len() as u64).to_le_bytes());
    for (rule, costs, places) in &input.experts {
        out.push(*rule);
        costs
            .iter()
            .for_each(|cost| out.extend(cost.to_bits().to_le_bytes()));
        // Nowhere, but for what the input says.
        let place = |at| places.get(at).copied().unwrap_or(u8::MAX);
        out.extend((0..2 * input.models.len()).map(place));
    }
    out.extend(input.rest);
    out
}

fn sealed(payload: &[u8]) -> Vec<u8> {
    let mut out = empty()[..HEAD_BYTES].to_vec();
    out.extend((payload.len() as u64).to_le_bytes());
    out.extend(payload);
    let sum = out.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    out.extend(sum.to_le_bytes());
    out
}

fuzz_target!(|input: Input<'_>| {
    let Ok(mut learned) = Learned::from_bytes(&sealed(&payload(&input))) else {
        return;
    };
    assert!(
        Learned::from_bytes(&learned.to_bytes()).is_ok(),
        "what was read can be saved"
    );
    let tiers = Tiers {
        pools: vec![
            (TierId(0), 10_000_000_000, 1 << 30),
            (TierId(1), 5_000_000_000, 1 << 32),
        ],
        cold_bytes_per_sec: 1_000_000_000,
    };
    for model in [1, 2, 1] {
        let load = Load {
            model: ModelId(model),
            bytes: 1 << 29,
            family: 0,
        };
        learned.observe(&Params::default(), &tiers, load);
    }
    assert!(
        Learned::from_bytes(&learned.to_bytes()).is_ok(),
        "what it decides can be saved"
    );
});
