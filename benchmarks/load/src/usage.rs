//! CPU time of processes, from /proc.

use std::collections::HashSet;
use std::fs;

/// User and system seconds of these processes and all their descendants.
pub fn cpu_seconds(pids: &[i32]) -> f64 {
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
    stats.iter().filter(|s| wanted.contains(&s.0)).map(|s| s.2).sum()
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
