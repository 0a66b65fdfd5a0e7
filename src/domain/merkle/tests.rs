//! Tests of the tree, against the reference and another implementation.

use std::convert::Infallible;

use ct_merkle::{ConsistencyProof, InclusionProof, RootHash, mem_backed_tree::MemoryBackedTree};
use pbkdf2::sha2::Sha256;

use super::*;

/// Returns a different hash for each number.
fn event(n: u64) -> ChainHash {
    ChainHash(Sha256::digest(n.to_be_bytes()).into())
}

/// Returns hashes of subtrees by the definition, without any cache.
fn subtree(range: Range<u64>) -> Result<TreeHash, Infallible> {
    match range.end - range.start {
        1 => Ok(TreeHash::leaf(event(range.start))),
        len => {
            let cut = range.start + len / 2;
            Ok(TreeHash::pair(subtree(range.start..cut)?, subtree(cut..range.end)?))
        }
    }
}

fn root_of(size: u64) -> TreeHash {
    root(0..size, &mut subtree).unwrap()
}

/// Returns the hash as another implementation has it.
fn theirs(root: TreeHash, size: u64) -> RootHash<Sha256> {
    RootHash::new(root.0.into(), size)
}

fn digests(path: &[TreeHash]) -> Vec<pbkdf2::sha2::digest::Output<Sha256>> {
    path.iter().map(|it| it.0.into()).collect()
}

#[test]
fn the_roots_of_the_reference_leaves_are_the_published_ones() {
    // The leaves and roots that the authors of RFC 6962 test their own implementation with; the
    // leaves are of any length there, so they are hashed by hand.
    let leaves: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let leaf = |data: &[u8]| {
        let mut hasher = Sha256::new();
        hasher.update([0]);
        hasher.update(data);
        TreeHash(hasher.finalize().into())
    };
    let mut frontier = Frontier::default();
    assert_eq!(
        frontier.root().to_string(),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    for (data, root) in leaves.into_iter().zip(roots) {
        frontier.push(leaf(data), |_, _| ());
        assert_eq!(frontier.root().to_string(), root);
    }
}

#[test]
fn a_tree_that_grows_has_the_hash_of_one_made_at_once_and_of_another_implementation() {
    let (mut frontier, mut other) = (Frontier::default(), MemoryBackedTree::<Sha256, _>::new());
    for size in 0..130 {
        assert_eq!(frontier.root(), root_of(size));
        assert_eq!(theirs(frontier.root(), size), other.root());
        frontier.push(TreeHash::leaf(event(size)), |len, hash| {
            assert_eq!(subtree(size + 1 - len..size + 1), Ok(hash), "the subtree it completes");
        });
        other.push(event(size).0);
    }
}

#[test]
fn another_implementation_accepts_every_inclusion_proof() {
    for size in 1..70 {
        let root = theirs(root_of(size), size);
        for index in 0..size {
            let path = inclusion(index, size, &mut subtree).unwrap().unwrap();
            let proof = InclusionProof::from_digests(digests(&path).iter());
            root.verify_inclusion(&event(index).0, index, &proof).unwrap();
            root.verify_inclusion(&event(index + 1).0, index, &proof).unwrap_err();
        }
        assert_eq!(inclusion(size, size, &mut subtree), Ok(None));
    }
}

#[test]
fn another_implementation_accepts_every_consistency_proof() {
    for new in 1..70 {
        for old in 1..=new {
            let path = consistency(old, new, &mut subtree).unwrap().unwrap();
            let proof = ConsistencyProof::from_digests(digests(&path).iter());
            let (before, after) = (theirs(root_of(old), old), theirs(root_of(new), new));
            after.verify_consistency(&before, &proof).unwrap();
            let forged = theirs(root_of(old + 1), old);
            after.verify_consistency(&forged, &proof).unwrap_err();
        }
        assert_eq!(consistency(new + 1, new, &mut subtree), Ok(None));
    }
    assert_eq!(consistency(0, 1, &mut subtree), Ok(None));
}

#[test]
fn a_frontier_counts_its_leaves() {
    let mut frontier = Frontier::default();
    for size in 0..5 {
        assert_eq!(frontier.size(), size);
        frontier.push(TreeHash::leaf(event(size)), |_, _| ());
    }
}
