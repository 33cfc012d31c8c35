//! MD5 (RFC 1321): the standard library of Rust has no digest.

const TURNS: [u32; 16] = [7, 12, 17, 22, 5, 9, 14, 20, 4, 11, 16, 23, 6, 10, 15, 21];

pub fn digest(mut data: Vec<u8>) -> String {
    let sines: Vec<u32> = (1..=64).map(|at| (f64::from(at).sin().abs() * 4_294_967_296.0).floor() as u32).collect();
    let bits = data.len() as u64 * 8;
    data.push(0x80);
    data.resize(data.len() + (120 - data.len() % 64) % 64, 0);
    data.extend_from_slice(&bits.to_le_bytes());
    let mut sum: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    for block in data.chunks(64) {
        let [mut a, mut b, mut c, mut d] = sum;
        for at in 0..64 {
            let (mixed, word) = match at / 16 {
                0 => ((b & c) | (!b & d), at),
                1 => ((d & b) | (!d & c), (5 * at + 1) % 16),
                2 => (b ^ c ^ d, (3 * at + 5) % 16),
                _ => (c ^ (b | !d), 7 * at % 16),
            };
            let value = u32::from_le_bytes(block[word * 4..word * 4 + 4].try_into().unwrap());
            let added = a.wrapping_add(mixed).wrapping_add(sines[at]).wrapping_add(value);
            (a, d, c) = (d, c, b);
            b = b.wrapping_add(added.rotate_left(TURNS[at / 16 * 4 + at % 4]));
        }
        for (part, value) in sum.iter_mut().zip([a, b, c, d]) {
            *part = part.wrapping_add(value);
        }
    }
    sum.iter().flat_map(|part| part.to_le_bytes()).map(|byte| format!("{byte:02x}")).collect()
}
