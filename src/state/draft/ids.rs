//! Names, their ids, and the objects behind them.

use std::collections::HashSet;

use super::Draft;
use crate::state::arena::NoRoom;
use crate::state::block::{blob, ids, name, offset};
use crate::state::carry::Names;
use crate::state::mem::{Memory, Ref};
use crate::state::tree::Tree;
use crate::types::{Id, Kind};

impl Draft {
    pub(crate) fn tree(&self) -> Tree<'_> {
        Tree::new(self.memory, self.root)
    }

    /// The id of a name, made if it is new; and whether it was.
    pub(in crate::state) fn id(&mut self, kind: Kind, name: &str) -> Result<(Id, bool), NoRoom> {
        if let Some(id) = self.tree().id_of(kind, name) {
            return Ok((id, false));
        }
        let adopted = self.adopted.get(&(kind, name.to_owned())).copied();
        let slot = match adopted.map(|id| id.slot).or_else(|| self.free_slots.pop()) {
            Some(slot) if adopted.is_some() => slot,
            Some(slot) => {
                self.taken_slots.push(slot);
                slot
            }
            None => {
                self.root.next_slot += 1;
                self.root.next_slot - 1
            }
        };
        let id = adopted.unwrap_or(Id { slot, birth: self.root.generation });
        let record = self.allocate(name::size(name.len()))?;
        name::write(&self.memory, record, id, kind as u8, name.as_bytes());
        self.root.names = self.insert(
            self.root.names,
            name::hash(self.memory.seed(), kind as u8, name.as_bytes()),
            record.into(),
            hash_of_name,
        )?;
        self.set_slot(slot, 0, id.birth, kind as u8)?;
        Ok((id, true))
    }

    /// Forgets a name and frees its id.
    pub(in crate::state) fn remove_name(&mut self, kind: Kind, name: &str) -> Result<(), NoRoom> {
        let Some(record) = self.tree().name_record(kind, name) else { return Ok(()) };
        let id = name::id(&self.memory, record);
        self.root.names =
            self.remove(self.root.names, name::hash(self.memory.seed(), kind as u8, name.as_bytes()), record.into())?;
        self.release(record);
        self.set_slot(id.slot, 0, 0, 0)?;
        self.freed_slots.push(id.slot);
        if self.root.names == 0 {
            // Nothing is left, so neither are the nodes of the vector.
            self.release_ids(self.root.ids, self.root.levels);
            self.root.ids = 0;
            self.root.levels = 0;
        }
        Ok(())
    }

    /// Puts a blob behind an id, releasing the former one, except for its table if the new one has the same.
    pub(in crate::state) fn set_blob(&mut self, id: Id, block: Ref, kind: u8) -> Result<(), NoRoom> {
        let old = self.tree().blob_of(id);
        self.set_slot(id.slot, block, id.birth, kind)?;
        match old {
            None => self.root.objects += 1,
            Some(old) => self.release_blob(old, blob::table(&self.memory, block)),
        }
        Ok(())
    }

    /// Takes the blob away from an id.
    pub(in crate::state) fn clear_blob(&mut self, id: Id) -> Result<(), NoRoom> {
        let Some(old) = self.tree().blob_of(id) else { return Ok(()) };
        self.set_slot(id.slot, 0, id.birth, 0)?;
        self.root.objects -= 1;
        self.release_blob(old, 0);
        Ok(())
    }

    /// Names that come later get these ids; for a tree that is empty yet.
    pub(in crate::state) fn adopt(&mut self, names: Names) {
        self.root.next_slot = names.iter().map(|(_, _, id)| id.slot + 1).fold(self.root.next_slot, u32::max);
        let taken: HashSet<u32> = names.iter().map(|(_, _, id)| id.slot).collect();
        self.free_slots = (0..self.root.next_slot).rev().filter(|slot| !taken.contains(slot)).collect();
        self.adopted = names.into_iter().map(|(kind, name, id)| ((kind, name), id)).collect();
    }

    /// Names that did not come give their ids back.
    pub(in crate::state) fn adopt_no_more(&mut self) {
        for ((kind, name), id) in std::mem::take(&mut self.adopted) {
            if self.tree().id_of(kind, &name) != Some(id) {
                self.free_slots.push(id.slot);
            }
        }
    }

    /// Finds the slots that nobody has, once, at takeover.
    pub(super) fn find_free_slots(&mut self) {
        for slot in (0..self.root.next_slot).rev() {
            let birth = ids::leaf(&self.memory, self.root.ids, self.root.levels, slot)
                .map_or(0, |leaf| ids::entry(&self.memory, leaf, slot as usize % ids::LEAF).1);
            if birth == 0 {
                self.free_slots.push(slot);
            }
        }
    }

    fn release_blob(&mut self, block: Ref, keep_table: Ref) {
        let table = blob::table(&self.memory, block);
        if table != 0 && table != keep_table {
            self.release(table);
        }
        self.release(block);
    }

    fn release_ids(&mut self, node: Ref, levels: u32) {
        if node == 0 {
            return;
        }
        if levels > 1 {
            for index in 0..ids::NODE {
                self.release_ids(self.memory.u32(offset(node) + 4 * index), levels - 1);
            }
        }
        self.release(node);
    }

    fn set_slot(&mut self, slot: u32, block: Ref, birth: u32, kind: u8) -> Result<(), NoRoom> {
        while u64::from(slot) >= ids::capacity(self.root.levels) {
            if self.root.levels > 0 && self.root.ids != 0 {
                let above = self.blank(ids::NODE_SIZE)?;
                self.memory.put_u32(offset(above), self.root.ids);
                self.root.ids = above;
            }
            self.root.levels += 1;
        }
        self.root.ids = self.set_below(self.root.ids, self.root.levels, slot, (block, birth, kind))?;
        Ok(())
    }

    fn set_below(&mut self, node: Ref, levels: u32, slot: u32, entry: (Ref, u32, u8)) -> Result<Ref, NoRoom> {
        let size = if levels == 1 { ids::LEAF_SIZE } else { ids::NODE_SIZE };
        let own = match node {
            0 => self.blank(size)?,
            _ => self.own(node, size)?,
        };
        if levels == 1 {
            let (block, birth, kind) = entry;
            ids::set(&self.memory, own, slot as usize % ids::LEAF, block, birth, kind);
            return Ok(own);
        }
        let at = offset(own) + 4 * ids::index(slot, levels - 1);
        let old = self.memory.u32(at);
        let child = self.set_below(old, levels - 1, slot, entry)?;
        if child != old {
            self.memory.put_u32(at, child);
        }
        Ok(own)
    }

    pub(super) fn blank(&mut self, size: usize) -> Result<Ref, NoRoom> {
        let block = self.allocate(size)?;
        for at in (0..size).step_by(8) {
            self.memory.put_u64(offset(block) + at, 0);
        }
        Ok(block)
    }
}

fn hash_of_name(memory: &Memory, word: u64) -> u64 {
    let record = word as Ref;
    name::hash(memory.seed(), name::kind(memory, record), name::bytes(memory, record))
}
