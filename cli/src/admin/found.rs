//! What a question found that is told in pages, so that each of them need not find all of it again: with a group of half a
//! million stays that took its time as often as there are pages.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use projector::Stays;
use proto::{ResourceId, Tenant};

/// Questions whose finds are kept, and how many finds they may have together.
const QUESTIONS_MAX: usize = 8;
const FINDS_MAX: usize = 2_000_000;

/// A question about memberships as of a moment, which no event changes afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) tenant: Tenant,
    pub(super) id: ResourceId,
    /// The last event that counts.
    pub(super) sequence: u64,
    pub(super) what: What,
}

/// What is asked of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Members,
    NestedMembers,
    Groups,
    NestedGroups,
    StaysIn,
    StaysOf,
}

/// All that a question found.
#[derive(Debug)]
pub(super) enum Finds {
    /// Each by itself or through others.
    Links(Vec<(ResourceId, bool)>),
    Stays(Stays),
}

impl Finds {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Links(links) => links.len(),
            Self::Stays(stays) => stays.len(),
        }
    }
}

/// The last questions of which there is more to tell, and what they found.
#[derive(Debug, Default)]
pub(super) struct Found(Mutex<VecDeque<(Question, Arc<Finds>)>>);

impl Found {
    fn kept(&self) -> MutexGuard<'_, VecDeque<(Question, Arc<Finds>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a question found before.
    pub(super) fn of(&self, question: &Question) -> Option<Arc<Finds>> {
        let kept = self.kept();
        kept.iter().find(|(known, _)| known == question).map(|(_, finds)| finds.clone())
    }

    /// Keeps what a question found for its next page, or lets go of it after the last one.
    pub(super) fn keep(&self, question: Question, finds: Arc<Finds>, more: bool) {
        let mut kept = self.kept();
        kept.retain(|(known, _)| *known != question);
        if more && finds.len() <= FINDS_MAX {
            kept.push_back((question, finds));
        }
        let all = |kept: &VecDeque<(Question, Arc<Finds>)>| -> usize {
            kept.iter().map(|(_, finds)| finds.len()).sum()
        };
        while kept.len() > QUESTIONS_MAX || all(&kept) > FINDS_MAX {
            kept.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_the_last_of_which_more_is_told() {
        let found = Found::default();
        let question = |sequence| Question {
            tenant: "corp".parse().unwrap(),
            id: eventlog::clock::new_resource_id(),
            sequence,
            what: What::Members,
        };
        let questions: Vec<Question> = (0..20).map(question).collect();
        let finds = |count| Arc::new(Finds::Links(vec![(questions[0].id, true); count]));
        for question in &questions {
            found.keep(question.clone(), finds(3), true);
        }
        let known = || questions.iter().filter_map(|one| found.of(one).map(|_| one.sequence));
        assert_eq!(known().collect::<Vec<_>>(), (12..20).collect::<Vec<_>>());
        found.keep(questions[13].clone(), finds(3), false);
        found.keep(questions[12].clone(), finds(3), true);
        assert!(found.of(&questions[13]).is_none());
        let other = Question { what: What::NestedMembers, ..questions[12].clone() };
        assert!(found.of(&other).is_none());
        // The largest pushes out all others, and what is larger still is not kept at all.
        found.keep(other.clone(), finds(FINDS_MAX), true);
        assert_eq!((known().count(), found.of(&other).unwrap().len()), (0, FINDS_MAX));
        found.keep(questions[0].clone(), finds(FINDS_MAX + 1), true);
        assert_eq!((known().count(), found.of(&other).is_some()), (0, true));
    }
}
