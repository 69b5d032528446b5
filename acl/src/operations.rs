//! Sets of operations, one bit each: bit `n` is the operation with Kafka's code `n`, as in `authorized_operations` (KIP-430).

use super::rule::{Operation, Permission, ResourceType};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operations(u32);

impl Operations {
    pub const NONE: Operations = Operations(0);
    pub const ALL: Operations = Operations(u32::MAX);

    pub const fn of(operations: &[Operation]) -> Operations {
        let (mut bits, mut i) = (0, 0);
        while i < operations.len() {
            bits |= 1 << operations[i] as u32;
            i += 1;
        }
        Operations(bits)
    }

    /// What a resource of this type knows (`AclEntry.supportedOperations`).
    pub const fn supported(by: ResourceType) -> Operations {
        use Operation::*;
        Operations::of(match by {
            ResourceType::Topic => &[Read, Write, Create, Describe, Delete, Alter, DescribeConfigs, AlterConfigs],
            ResourceType::Group => &[Read, Describe, Delete, DescribeConfigs, AlterConfigs],
            ResourceType::Cluster => {
                &[Create, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite, Alter, Describe]
            }
            ResourceType::TransactionalId => &[Describe, Write, TwoPhaseCommit],
            ResourceType::DelegationToken => &[Describe],
            ResourceType::User => &[CreateTokens, DescribeTokens],
        })
    }

    pub const fn contains(self, operation: Operation) -> bool {
        self.0 & (1 << operation as u32) != 0
    }

    pub const fn and(self, other: Operations) -> Operations {
        Operations(self.0 & other.0)
    }

    pub const fn or(self, other: Operations) -> Operations {
        Operations(self.0 | other.0)
    }

    pub const fn without(self, other: Operations) -> Operations {
        Operations(self.0 & !other.0)
    }

    /// As responses carry it.
    pub const fn bits(self) -> i32 {
        self.0 as i32
    }
}

/// What rules say about the operations on a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    pub allowed: Operations,
    pub denied: Operations,
}

impl Grant {
    /// What one rule says. Only what is allowed implies more.
    pub fn by(operation: Operation, permission: Permission) -> Grant {
        let of = |list: &[Operation]| Operations::of(list);
        let operations = match (operation, permission) {
            (Operation::All, _) => Operations::ALL,
            (Operation::Read | Operation::Write | Operation::Delete | Operation::Alter, Permission::Allow) => {
                of(&[operation, Operation::Describe])
            }
            (Operation::AlterConfigs, Permission::Allow) => of(&[operation, Operation::DescribeConfigs]),
            _ => of(&[operation]),
        };
        match permission {
            Permission::Allow => Grant { allowed: operations, denied: Operations::NONE },
            Permission::Deny => Grant { allowed: Operations::NONE, denied: operations },
        }
    }

    pub fn add(&mut self, other: Grant) {
        self.allowed = self.allowed.or(other.allowed);
        self.denied = self.denied.or(other.denied);
    }
}
