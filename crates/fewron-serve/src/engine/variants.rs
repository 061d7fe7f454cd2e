//! All variants of a server, and which one a request gets.

use super::settings::{PlanMaker, Settings};
use super::variant::{Variant, VariantError};
use fewron_sparsity::PolicyKind;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Steps of the ratio at which clients may ask for a policy: so few plans that all can stay.
const RATIO_STEPS: f32 = 100.0;

/// The variants of a server.
pub(super) struct Variants {
    /// Dense, then those with a name.
    named: Vec<Arc<Variant>>,
    /// Shares of the traffic, by index; they add up to 1.
    split: Vec<(usize, f64)>,
    /// Those that clients asked for.
    made: Mutex<Vec<Arc<Variant>>>,
    /// Requests without a user, so far.
    strangers: AtomicU64,
}

impl Variants {
    /// Takes the variants out of the settings.
    ///
    /// # Errors
    /// When a share is of no variant or no positive number, or two variants have one name.
    pub(super) fn new(settings: &mut Settings) -> Result<Self, VariantError> {
        let given = settings.variants.drain(..).map(Arc::new);
        let named: Vec<_> = std::iter::once(Arc::new(Variant::dense())).chain(given).collect();
        for (index, variant) in named.iter().enumerate() {
            if named[..index].iter().any(|other| other.name == variant.name) {
                let name = &variant.name;
                return Err(VariantError::Policy(format!("two variants are called {name:?}")));
            }
        }
        let split = Self::shares(&named, &settings.split)?;
        Ok(Self { named, split, made: Mutex::default(), strangers: AtomicU64::new(0) })
    }

    fn shares(
        named: &[Arc<Variant>],
        split: &[(String, f64)],
    ) -> Result<Vec<(usize, f64)>, VariantError> {
        let total: f64 = split.iter().map(|(_, share)| share).sum();
        let share = |(name, share): &(String, f64)| {
            if !share.is_finite() || *share <= 0.0 {
                return Err(VariantError::Policy(format!(
                    "the share of {name:?} is {share}; shares are positive numbers"
                )));
            }
            let index = named.iter().position(|variant| variant.name == *name);
            index.map(|index| (index, share / total)).ok_or_else(|| unknown(named, name))
        };
        match split {
            [] => Ok(vec![(usize::from(named.len() > 1), 1.0)]),
            split => split.iter().map(share).collect(),
        }
    }

    /// Dense, then those with a name.
    pub(super) fn named(&self) -> Vec<Arc<Variant>> {
        self.named.clone()
    }

    /// The variant of a name.
    pub(super) fn named_so(&self, name: &str) -> Result<Arc<Variant>, VariantError> {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let found = self.named.iter().chain(made.iter()).find(|variant| variant.name == name);
        found.cloned().ok_or_else(|| unknown(&self.named, name))
    }

    /// Share of the traffic that names no variant.
    pub(super) fn share(&self, name: &str) -> f64 {
        let of = |(index, _): &&(usize, f64)| self.named[*index].name == name;
        self.split.iter().filter(of).map(|(_, share)| share).sum()
    }

    /// What `asked` means: the model's name, or that, a colon and a variant.
    pub(super) fn find(
        &self,
        model: &str,
        asked: &str,
        user: Option<&str>,
    ) -> Result<Arc<Variant>, VariantError> {
        let rest = asked.strip_prefix(model);
        match rest.map(|rest| (rest, rest.strip_prefix(':'))) {
            Some(("", _)) => Ok(self.by_share(user)),
            Some((_, Some(variant))) => self.named_so(variant),
            _ => Err(VariantError::Unknown {
                name: asked.to_owned(),
                known: names(&self.named, &format!("{model}:"), model),
            }),
        }
    }

    /// A variant by the shares of the traffic: a point between 0 and 1 that the user's name, or else the
    /// count of requests, is hashed to.
    fn by_share(&self, user: Option<&str>) -> Arc<Variant> {
        let mut hasher = DefaultHasher::new();
        match user {
            Some(user) => user.hash(&mut hasher),
            None => self.strangers.fetch_add(1, Ordering::Relaxed).hash(&mut hasher),
        }
        let mut point = (hasher.finish() >> 11) as f64 / (1u64 << 53) as f64;
        for (index, share) in &self.split {
            point -= share;
            if point < 0.0 {
                return Arc::clone(&self.named[*index]);
            }
        }
        Arc::clone(&self.named[self.split[self.split.len() - 1].0])
    }

    /// The variant of a policy at a ratio, rounded to a hundredth; made by `maker` if it is new.
    pub(super) fn of_policy(
        &self,
        policy: PolicyKind,
        ratio: f32,
        maker: &PlanMaker,
    ) -> Result<Arc<Variant>, VariantError> {
        if !(0.0..=1.0).contains(&ratio) {
            let message = format!("sparsity is {ratio}; it lies between 0 and 1");
            return Err(VariantError::Policy(message));
        }
        let ratio = (ratio * RATIO_STEPS).round() / RATIO_STEPS;
        let name = format!("{policy}@{ratio}");
        if let Ok(known) = self.named_so(&name) {
            return Ok(known);
        }
        let plan = maker(policy, ratio).map_err(VariantError::Policy)?;
        let new = Variant { name, plan: Some(Arc::new(plan)), sparsity: ratio };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        // Another request may have made it meanwhile.
        if let Some(known) = made.iter().find(|variant| variant.name == new.name) {
            return Ok(Arc::clone(known));
        }
        made.push(Arc::new(new));
        Ok(Arc::clone(&made[made.len() - 1]))
    }
}

fn unknown(named: &[Arc<Variant>], name: &str) -> VariantError {
    VariantError::Unknown { name: name.to_owned(), known: names(named, "", "") }
}

/// A list of names; `model` is one of them where it is not empty.
fn names(named: &[Arc<Variant>], prefix: &str, model: &str) -> String {
    let variants = named.iter().map(|variant| format!("{prefix}{}", variant.name));
    let model = Some(model.to_owned()).filter(|model| !model.is_empty());
    model.into_iter().chain(variants).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::settings::{Guard, Limits};
    use super::*;
    use fewron_model::KvType;
    use fewron_sparsity::Plan;

    fn variants(split: &[(&str, f64)]) -> Result<Variants, VariantError> {
        let plan = || Plan { policy: PolicyKind::Gate, neurons: 4, layers: Vec::new() };
        let sparse = |name: &str| Variant {
            name: name.to_owned(),
            plan: Some(Arc::new(plan())),
            sparsity: 0.5,
        };
        Variants::new(&mut Settings {
            name: "m".to_owned(),
            variants: vec![sparse("plan"), sparse("other")],
            split: split.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect(),
            maker: maker(),
            limits: Limits::default(),
            guard: Guard::default(),
            kv_type: KvType::F16,
        })
    }

    fn maker() -> PlanMaker {
        Box::new(|policy, _| match policy {
            PolicyKind::Gate => Ok(Plan { policy, neurons: 4, layers: Vec::new() }),
            _ => Err("no such plan".to_owned()),
        })
    }

    #[test]
    fn a_name_means_one_variant() {
        let v = variants(&[]).unwrap();
        assert_eq!(v.find("m", "m:dense", None).unwrap().name, "dense");
        assert_eq!(v.find("m", "m:other", None).unwrap().name, "other");
        assert_eq!(v.find("m", "m", None).unwrap().name, "plan");
        for wrong in ["m:none", "mm", "m:", "x", ""] {
            let message = v.find("m", wrong, None).unwrap_err().to_string();
            assert!(message.contains("dense") && message.contains("plan"), "{message}");
        }
    }

    #[test]
    fn traffic_is_split_and_users_stay() {
        let v = variants(&[("dense", 20.0), ("plan", 80.0)]).unwrap();
        let dense = (0..10_000).filter(|_| v.find("m", "m", None).unwrap().is_dense()).count();
        assert!((1_800..2_200).contains(&dense), "{dense}");
        let users: Vec<String> = (0..1000).map(|user| format!("user {user}")).collect();
        let of = |user: &String| v.find("m", "m", Some(user)).unwrap().name.clone();
        let first: Vec<String> = users.iter().map(of).collect();
        assert_eq!(users.iter().map(of).collect::<Vec<_>>(), first);
        let dense = first.iter().filter(|name| *name == "dense").count();
        assert!((150..250).contains(&dense), "{dense}");
        assert!((v.share("plan") - 0.8).abs() < 1e-12 && v.share("other") == 0.0);
    }

    #[test]
    fn wrong_shares_are_refused() {
        for split in [("nobody", 1.0), ("plan", 0.0), ("plan", -1.0), ("plan", f64::NAN)] {
            assert!(variants(&[split]).is_err(), "{split:?}");
        }
    }

    #[test]
    fn a_plan_is_made_once() {
        let v = variants(&[]).unwrap();
        let first = v.of_policy(PolicyKind::Gate, 0.501, &maker()).unwrap();
        let again = v.of_policy(PolicyKind::Gate, 0.5, &maker()).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        assert_eq!(first.name, "gate@0.5");
        assert!(v.of_policy(PolicyKind::Gate, 1.5, &maker()).is_err());
        assert!(v.of_policy(PolicyKind::Predict, 0.5, &maker()).is_err());
    }
}
