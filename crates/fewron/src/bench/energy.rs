//! Energy of the processor, where Linux has running counters for it (RAPL).

use std::fs;
use std::path::{Path, PathBuf};

/// Where Linux shows its counters.
const POWERCAP: &str = "/sys/class/powercap";

/// Counters that add up to what the machine's processors and their memory use.
#[derive(Debug)]
pub(crate) struct EnergyMeter {
    zones: Vec<Zone>,
}

#[derive(Debug)]
struct Zone {
    counter: PathBuf,
    /// The counter starts again at 0 after this.
    max_uj: u64,
}

/// What the counters said at one moment, in µJ.
#[derive(Clone, Debug)]
pub(crate) struct Reading(Vec<u64>);

impl EnergyMeter {
    /// The counters of this machine; `None` where there are none or they may not be read.
    pub(crate) fn find() -> Option<Self> {
        Self::below(Path::new(POWERCAP))
    }

    /// Packages and memory. Cores are part of packages, and `psys` has everything again.
    fn below(root: &Path) -> Option<Self> {
        let mut zones = Vec::new();
        for folder in fs::read_dir(root).ok()?.flatten().map(|entry| entry.path()) {
            let is_rapl = folder.file_name()?.to_str()?.starts_with("intel-rapl:");
            let name = fs::read_to_string(folder.join("name")).unwrap_or_default();
            if is_rapl && (name.starts_with("package") || name.trim() == "dram") {
                let max_uj = read_number(&folder.join("max_energy_range_uj"))?;
                zones.push(Zone { counter: folder.join("energy_uj"), max_uj });
            }
        }
        let meter = Self { zones };
        (!meter.zones.is_empty() && meter.read().is_some()).then_some(meter)
    }

    /// What the counters say now.
    pub(crate) fn read(&self) -> Option<Reading> {
        self.zones.iter().map(|zone| read_number(&zone.counter)).collect::<Option<_>>().map(Reading)
    }

    /// Joules between two readings that lie less than one turn of a counter apart.
    pub(crate) fn joules(&self, before: &Reading, after: &Reading) -> f64 {
        let used =
            |((zone, &before), &after): ((&Zone, &u64), &u64)| match after.checked_sub(before) {
                Some(used) => used,
                None => zone.max_uj.saturating_sub(before) + after,
            };
        let used_uj: u64 = self.zones.iter().zip(&before.0).zip(&after.0).map(used).sum();
        used_uj as f64 * 1e-6
    }
}

/// Energy of reading eight bytes from memory: the middle of 1.3 to 2.6 nJ.
const READ_J: f64 = 1.95e-9;

/// Energy of an 8-bit multiplication and a 32-bit addition: 0.2 and 0.1 pJ.
const MULTIPLY_ADD_J: f64 = 0.3e-12;

/// What reading weights from memory and multiplying them takes at least, in J: a model for machines without
/// counters, which knows nothing of instructions, caches and idle power. It ranks variants, and is no
/// measurement.
///
/// Source: Horowitz, "Computing's Energy Problem (and what we can do about it)" (ISSCC 2014), figures for
/// 45 nm.
pub(crate) fn modelled_joules(bytes: f64, flops: f64) -> f64 {
    bytes / 8.0 * READ_J + flops / 2.0 * MULTIPLY_ADD_J
}

fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(root: &Path, folder: &str, name: &str, energy_uj: u64) {
        let folder = root.join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("name"), format!("{name}\n")).unwrap();
        fs::write(folder.join("energy_uj"), format!("{energy_uj}\n")).unwrap();
        fs::write(folder.join("max_energy_range_uj"), "10000000\n").unwrap();
    }

    #[test]
    fn adds_packages_and_memory_across_a_turn() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let set = |package: u64, dram: u64| {
            zone(root, "intel-rapl:0", "package-0", package);
            zone(root, "intel-rapl:0:0", "core", 5 * package);
            zone(root, "intel-rapl:0:1", "dram", dram);
            zone(root, "intel-rapl:1", "psys", 7 * package);
            zone(root, "other", "package-9", package);
        };
        set(9_000_000, 1_000_000);
        let meter = EnergyMeter::below(root).unwrap();
        let before = meter.read().unwrap();
        set(500_000, 1_250_000);
        // The package went on 1 J to its end and 0.5 J beyond; the memory used 0.25 J.
        let joules = meter.joules(&before, &meter.read().unwrap());
        assert!((joules - 1.75).abs() < 1e-9, "{joules}");
    }

    #[test]
    fn modelled_energy_is_that_of_bytes_and_operations() {
        // 100 MB and 270 MFLOPs: 24.4 mJ for reading, 0.04 mJ for arithmetic.
        let joules = modelled_joules(1e8, 2.7e8);
        assert!((joules - (0.024375 + 0.0000405)).abs() < 1e-9, "{joules}");
    }

    #[test]
    fn machines_without_counters() {
        let root = tempfile::tempdir().unwrap();
        assert!(EnergyMeter::below(root.path()).is_none());
        assert!(EnergyMeter::below(&root.path().join("no")).is_none());
        zone(root.path(), "intel-rapl:0", "psys", 1);
        assert!(EnergyMeter::below(root.path()).is_none());
    }
}
