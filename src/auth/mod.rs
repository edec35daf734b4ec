//! Authentication: who sends this request, and what may they do.

mod settings;

pub use settings::{
    Algorithm, ArchivedAlgorithm, ArchivedAuth, ArchivedJwt, ArchivedKey, ArchivedMaterial, ArchivedScheme,
    ArchivedSource, Auth, Jwt, Key, Material, Scheme, Source,
};
