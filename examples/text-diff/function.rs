//! Compares two texts line by line: the shortest way from one to the other, by the longest common subsequence of their lines.

use serde_json::{json, Value};
use std::fmt;

pub enum Mistake {
    Json(serde_json::Error),
    Missing(&'static str),
}

impl fmt::Display for Mistake {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Mistake::Json(error) => write!(out, "the input cannot be read: {error}"),
            Mistake::Missing(name) => write!(out, "the text {name:?} is missing"),
        }
    }
}

impl From<serde_json::Error> for Mistake {
    fn from(error: serde_json::Error) -> Self {
        Mistake::Json(error)
    }
}

/// `lengths[i][j]` is how many lines `old[i..]` and `new[j..]` have in common.
fn common(old: &[&str], new: &[&str]) -> Vec<Vec<usize>> {
    let mut lengths = vec![vec![0; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            lengths[i][j] = match old[i] == new[j] {
                true => lengths[i + 1][j + 1] + 1,
                false => lengths[i + 1][j].max(lengths[i][j + 1]),
            };
        }
    }
    lengths
}

fn difference(old: &[&str], new: &[&str]) -> Vec<String> {
    let lengths = common(old, new);
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(format!("  {}", old[i]));
            i += 1;
            j += 1;
        } else if j == new.len() || (i < old.len() && lengths[i + 1][j] >= lengths[i][j + 1]) {
            lines.push(format!("- {}", old[i]));
            i += 1;
        } else {
            lines.push(format!("+ {}", new[j]));
            j += 1;
        }
    }
    lines
}

pub fn handle(input: &str) -> Result<String, Mistake> {
    let request: Value = serde_json::from_str(input)?;
    let text = |name| request[name].as_str().ok_or(Mistake::Missing(name));
    let (old, new): (Vec<_>, Vec<_>) = (text("old")?.lines().collect(), text("new")?.lines().collect());
    let diff = difference(&old, &new);
    let count = |sign| diff.iter().filter(|line| line.starts_with(sign)).count();
    println!("{} lines against {}", old.len(), new.len());
    Ok(json!({ "added": count('+'), "removed": count('-'), "diff": diff }).to_string())
}
