//! CPU time and memory of processes, from /proc.

use std::collections::{BTreeMap, HashSet};
use std::fs;

/// User and system seconds of these processes and all their descendants, each by its id.
pub fn cpu_seconds(pids: &[i32]) -> BTreeMap<i32, f64> {
    let stats: Vec<(i32, i32, f64)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(stat)
        .collect();
    let mut wanted: HashSet<i32> = pids.iter().copied().collect();
    loop {
        let before = wanted.len();
        wanted.extend(stats.iter().filter(|(_, parent, _)| wanted.contains(parent)).map(|s| s.0).collect::<Vec<_>>());
        if wanted.len() == before {
            break;
        }
    }
    stats.iter().filter(|s| wanted.contains(&s.0)).map(|s| (s.0, s.2)).collect()
}

/// What each used between the two looks.
pub fn difference(before: &BTreeMap<i32, f64>, after: &BTreeMap<i32, f64>) -> BTreeMap<i32, f64> {
    after.iter().map(|(pid, seconds)| (*pid, seconds - before.get(pid).unwrap_or(&0.0))).collect()
}

/// Bytes of memory of their own that these processes and all their descendants hold: what lies in files or in shared
/// mappings, such as a tape, is not counted.
pub fn own_bytes(pids: &[i32]) -> u64 {
    let kib = |pid: &i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find(|line| line.starts_with("Pss_Anon:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    cpu_seconds(pids).keys().filter_map(kib).sum::<u64>() * 1024
}

/// User and system seconds of this process.
pub fn own_cpu_seconds() -> f64 {
    stat(i32::try_from(std::process::id()).unwrap_or(0)).map_or(0.0, |s| s.2)
}

/// (pid, parent, CPU seconds).
fn stat(pid: i32) -> Option<(i32, i32, f64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some((pid, fields.get(1)?.parse().ok()?, ticks / 100.0))
}
