//! A datapath in memory, for tests: it can refuse steps, and a test can change its objects as somebody else would.

use std::collections::{BTreeMap, BTreeSet};

use vtep_proto::v1::ErrorCode;

use super::{Datapath, Done, Expected, Outcome, Scope, Step, StepError};
use crate::error::AgentError;
use crate::object::{Object, ObjectKey};

/// The datapath.
#[derive(Debug, Default)]
pub struct Fake {
    /// Its objects. Tests change them to act as somebody else.
    pub objects: BTreeMap<ObjectKey, Object>,
    /// What it refuses to create.
    pub refused: BTreeSet<ObjectKey>,
    /// Every step that was given to it.
    pub steps: Vec<Step>,
}

impl Fake {
    fn step(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Ensure(object) => {
                let key = object.key();
                if self.refused.contains(&key) {
                    return Err(StepError::new(ErrorCode::NetnsNotFound, format!("{key}: refused")));
                }
                let segment = object.vni().map(ObjectKey::Segment);
                if segment.is_some_and(|s| key != s && !self.objects.contains_key(&s)) {
                    // A port must not stay in the network that it was in before.
                    self.objects.remove(&key);
                    return Err(StepError::new(ErrorCode::NetworkNotFound, format!("{key}: no segment")));
                }
                let is_new = self.objects.insert(key, object.clone()).is_none() && matches!(object, Object::Segment(_));
                Ok(if is_new { Done::Rebuilt } else { Done::InPlace })
            }
            Step::Remove(key) => {
                self.objects.remove(key);
                if let ObjectKey::Segment(vni) = key {
                    self.objects
                        .retain(|k, o| o.vni() != Some(*vni) || matches!(k, ObjectKey::Port(_)));
                    for object in self.objects.values_mut().filter(|o| o.vni() == Some(*vni)) {
                        if let Object::Port(port) = object {
                            port.intact = false;
                        }
                    }
                }
                Ok(Done::InPlace)
            }
        }
    }
}

impl Datapath for Fake {
    fn read_back(&mut self, scope: &Scope, _: &Expected) -> Result<BTreeMap<ObjectKey, Object>, AgentError> {
        let within = |key: &ObjectKey, object: &Object| match scope {
            Scope::All => true,
            Scope::Some { vnis, ports } => match key {
                ObjectKey::Port(name) => ports.contains(name),
                _ => object.vni().is_some_and(|v| vnis.contains(&v)),
            },
        };
        Ok(self
            .objects
            .iter()
            .filter(|(k, o)| within(k, o))
            .map(|(k, o)| (k.clone(), o.clone()))
            .collect())
    }

    fn apply(&mut self, steps: &[Step]) -> Vec<Outcome> {
        self.steps.extend_from_slice(steps);
        steps.iter().map(|s| self.step(s)).collect()
    }
}
