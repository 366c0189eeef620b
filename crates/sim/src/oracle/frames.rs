//! Promises about frames: stated for the product's format, which `crate::product` can read.

use super::Oracle;
use crate::plan::Plan;

pub(super) fn oracles(_plan: &Plan) -> Vec<Box<dyn Oracle>> {
    Vec::new()
}
