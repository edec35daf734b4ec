/// One entry of an alias table: a draw below `threshold` stays, any other goes to `alias`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub threshold: u32,
    pub alias: u32,
}

/// Vose's method: a table from which one even draw of a cell and one of 32 bits picks in proportion to `weights`
/// (finite, not negative). Where they sum to nothing, every cell is picked alike.
///
/// Vose, "A linear algorithm for generating random numbers with a given distribution", IEEE TSE 17(9), 1991.
pub(super) fn cells(weights: &[f64]) -> Vec<Cell> {
    let mut cells: Vec<Cell> =
        (0..weights.len() as u32).map(|index| Cell { threshold: u32::MAX, alias: index }).collect();
    let sum: f64 = weights.iter().sum();
    if sum <= 0.0 {
        return cells;
    }
    let scale = weights.len() as f64 / sum;
    let mut left: Vec<f64> = weights.iter().map(|weight| weight * scale).collect();
    let (mut small, mut large): (Vec<u32>, Vec<u32>) =
        (0..weights.len() as u32).partition(|index| left.get(*index as usize).is_some_and(|weight| *weight < 1.0));
    // A cell below the average is filled up by one above it, which is thereby worth that much less. Rounding may leave
    // one pile before the other: those cells are full, as they were born.
    while let (Some(poor), Some(rich)) = (small.pop(), large.pop()) {
        let Some(have) = left.get(poor as usize).copied() else { break };
        if let Some(cell) = cells.get_mut(poor as usize) {
            *cell = Cell { threshold: (have * 4_294_967_296.0) as u32, alias: rich };
        }
        let Some(weight) = left.get_mut(rich as usize) else { break };
        *weight -= 1.0 - have;
        if *weight < 1.0 { small.push(rich) } else { large.push(rich) }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shares(cells: &[Cell]) -> Vec<f64> {
        let mut shares = vec![0.0; cells.len()];
        for (index, cell) in cells.iter().enumerate() {
            // As the reader does it: a cell whose alias is itself is full whatever its threshold.
            let stays = f64::from(cell.threshold) / 4_294_967_296.0;
            shares[index] += stays / cells.len() as f64;
            shares[cell.alias as usize] += (1.0 - stays) / cells.len() as f64;
        }
        shares
    }

    #[test]
    fn nothing_is_even_and_zero_is_never() {
        assert!(cells(&[]).is_empty());
        for share in shares(&cells(&[0.0; 4])) {
            assert!((share - 0.25).abs() < 1e-9);
        }
        assert_eq!(shares(&cells(&[0.0, 1.0, 0.0, 3.0]))[0], 0.0);
    }

    proptest! {
        #[test]
        fn shares_are_the_weights(weights in proptest::collection::vec(prop_oneof![Just(0.0), 1e-3..1e6_f64], 1..200)) {
            let sum: f64 = weights.iter().sum();
            prop_assume!(sum > 0.0);
            for (share, weight) in shares(&cells(&weights)).into_iter().zip(&weights) {
                prop_assert!((share - weight / sum).abs() < 1e-8, "{} for {}", share, weight / sum);
                prop_assert!(*weight > 0.0 || share < 1e-12, "a weight of 0 is never drawn");
            }
        }
    }
}
