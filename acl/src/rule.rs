//! One rule, and the words it is made of, with Kafka's codes for them.

/// As the name of a resource: any. As a host: any.
pub const WILDCARD: &str = "*";
/// The principal of rules for everybody.
pub const EVERYBODY: &str = "User:*";
/// The one resource of type cluster.
pub const CLUSTER_NAME: &str = "kafka-cluster";

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $code:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($variant = $code,)*
        }

        impl $name {
            pub const ALL: &[$name] = &[$($name::$variant),*];

            /// `None`: Kafka has no such code, or it is one of filters alone.
            pub fn from_code(code: i8) -> Option<$name> {
                Self::ALL.iter().copied().find(|v| v.code() == code)
            }

            pub fn code(self) -> i8 {
                self as i8
            }

            pub fn name(self) -> &'static str {
                match self {
                    $($name::$variant => stringify!($variant),)*
                }
            }
        }
    };
}

codes! {
    /// `org.apache.kafka.common.resource.ResourceType`
    ResourceType { Topic = 2, Group = 3, Cluster = 4, TransactionalId = 5, DelegationToken = 6, User = 7 }
}

codes! {
    /// `org.apache.kafka.common.resource.PatternType`, those that rules have.
    PatternType { Literal = 3, Prefixed = 4 }
}

codes! {
    /// `org.apache.kafka.common.acl.AclOperation`
    Operation {
        All = 2,
        Read = 3,
        Write = 4,
        Create = 5,
        Delete = 6,
        Alter = 7,
        Describe = 8,
        ClusterAction = 9,
        DescribeConfigs = 10,
        AlterConfigs = 11,
        IdempotentWrite = 12,
        CreateTokens = 13,
        DescribeTokens = 14,
        TwoPhaseCommit = 15,
    }
}

codes! {
    /// `org.apache.kafka.common.acl.AclPermissionType`
    Permission { Deny = 2, Allow = 3 }
}

/// In the order in which the rules for one principal, one pattern and one host lie together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// `Type:name`, compared as a whole; [`EVERYBODY`] is everybody.
    pub principal: String,
    pub resource_type: ResourceType,
    pub pattern_type: PatternType,
    pub name: String,
    pub host: String,
    pub operation: Operation,
    pub permission: Permission,
}

impl Rule {
    /// Names every resource of its type.
    pub fn is_for_all(&self) -> bool {
        self.pattern_type == PatternType::Literal && self.name == WILDCARD
    }
}
