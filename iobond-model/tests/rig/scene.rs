//! A victim and its neighbour: what a bad ring may do, which is nothing.
//!
//! ```text
//!   lane 0: the victim       bad ring ---> exactly one error, then silence
//!   lane 1: its neighbour    carries on
//!   everything else          canary, unchanged
//! ```

use std::ops::Range;

use iobond_model::shadow::{Context, Progress, Queue, QueueError};

use super::{
    Image, Rig, Shape,
    back_end::BackEnd,
    base_ring,
    guest::{Guest, direct, out, writable},
    in_flight, slots,
};

/// The victim and its neighbour.
pub struct Scene {
    pub rig: Rig,
    pub victim: Queue,
    neighbour: Queue,
}

impl Scene {
    pub fn new(shape: Shape) -> Self {
        let mut rig = Rig::default();
        let victim = rig.start(shape.context(0));
        let neighbour = rig.start(Shape::default().context(1));
        Self { rig, victim, neighbour }
    }

    pub fn context(&self) -> Context {
        *self.victim.context()
    }

    /// Forwards the victim's ring, which must stop it: nothing of it is published, nothing but its own shadow
    /// memory was touched, and from then on it is silent while the neighbour carries on.
    pub fn refuse(&mut self, doorbell: Option<u16>) -> QueueError {
        let (board, base) = (Image::of_board(&self.rig), Image::of_base(&self.rig));
        let error = self.rig.forward(&mut self.victim, doorbell).unwrap_err();
        let [desc, ..] = base_ring(&self.context());
        board.assert_same_but(&Image::of_board(&self.rig), &[], "board memory after a bad ring");
        base.assert_same_but(
            &Image::of_base(&self.rig),
            &[desc, slots(&self.context())],
            "base memory after a bad ring",
        );
        assert_eq!(self.victim.head(), 0, "a chain of a bad ring was published");
        self.assert_silence();
        self.assert_neighbour_carries_on();
        error
    }

    /// Returns up to `tail`, which must stop the victim; the board may have changed in `allowed`.
    pub fn refuse_used(&mut self, tail: u16, allowed: &[Range<u64>]) -> QueueError {
        let (board, base) = (Image::of_board(&self.rig), Image::of_base(&self.rig));
        let error = self.rig.retire(&mut self.victim, tail).unwrap_err();
        board.assert_same_but(&Image::of_board(&self.rig), allowed, "board memory after a bad used ring");
        base.assert_same_but(&Image::of_base(&self.rig), &[], "base memory after a bad used ring");
        assert_eq!(self.rig.take_interrupts(), [], "an interrupt for nothing");
        self.assert_silence();
        self.assert_neighbour_carries_on();
        error
    }

    /// Whatever happens now, the victim does nothing.
    pub fn assert_silence(&mut self) {
        let mut guest = Guest::new(&self.rig.board, self.victim.context());
        guest.offer(&direct(&[out(10), writable(10)])).unwrap();
        let (board, base) = (Image::of_board(&self.rig), Image::of_base(&self.rig));
        for n in 0..3 {
            assert_eq!(self.rig.forward(&mut self.victim, None), Ok(Progress::default()));
            assert_eq!(self.rig.forward(&mut self.victim, Some(n * 1000)), Ok(Progress::default()));
            assert_eq!(self.rig.retire(&mut self.victim, n * 1000), Ok(Progress::default()));
        }
        board.assert_same_but(&Image::of_board(&self.rig), &[], "board memory, of a queue that has failed");
        base.assert_same_but(&Image::of_base(&self.rig), &[], "base memory, of a queue that has failed");
        assert_eq!(self.rig.take_interrupts(), []);
    }

    /// The neighbour takes a chain up and down, whole. (With bus mastering off it cannot, but then it is the
    /// board's wish.)
    pub fn assert_neighbour_carries_on(&mut self) {
        let context = *self.neighbour.context();
        self.rig.bus_master = true;
        let mut guest = Guest::new(&self.rig.board, &context);
        let mut back_end = BackEnd::new(&self.rig.base, &context);
        let head = guest.offer(&direct(&[out(300), writable(300)])).unwrap();
        self.rig.forward(&mut self.neighbour, None).unwrap();
        assert_eq!(back_end.take(), 1);
        back_end.complete(0, 299, 7);
        self.rig.retire(&mut self.neighbour, back_end.used).unwrap();
        assert_eq!(guest.collect(), [(head, 299)]);
        assert_eq!(self.rig.take_interrupts(), [(context.function, context.vector)]);
    }

    /// A scene with one chain of 10 readable and 20 writable bytes in flight, at shadow head 0.
    pub fn with_one_in_flight() -> Self {
        let mut scene = Self::new(Shape::default());
        let context = scene.context();
        Guest::new(&scene.rig.board, &context).offer(&direct(&[out(10), writable(20)])).unwrap();
        scene.rig.forward(&mut scene.victim, None).unwrap();
        assert_eq!(in_flight(&scene.victim), 1);
        scene
    }

    /// The back end answers the only chain in flight, saying that it wrote `len` bytes; its used index.
    pub fn answer(&self, len: u32) -> u16 {
        let mut back_end = BackEnd::new(&self.rig.base, &self.context());
        assert_eq!(back_end.take(), 1);
        back_end.complete(0, len, 0x33);
        back_end.used
    }
}
