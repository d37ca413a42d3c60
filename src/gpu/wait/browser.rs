//! Waits in a browser: suspending the WebAssembly stack.

use super::{ErrorScopes, Interrupted};
use futures_intrusive::sync::ManualResetEvent;
use js_sys::{Function, Promise};
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::time::Duration;
use wasm_bindgen::JsValue;

/// A submission that can be waited for: set when its work is done.
pub(crate) type Submission = Arc<ManualResetEvent>;

thread_local! {
    /// The functions that end suspended waits, by number, and the next number. Wakers must be `Send`, which a function
    /// of JavaScript is not, so they have the number.
    static WAKERS: RefCell<(u64, HashMap<u64, Function>)> = RefCell::default();
}

/// Wakes one suspended wait.
struct Alarm(u64);

impl Alarm {
    /// Returns an alarm, and a promise that it resolves.
    fn new() -> (Arc<Self>, Promise) {
        let number = WAKERS.with_borrow_mut(|(next, _)| {
            *next += 1;
            *next
        });
        let promise = Promise::new(&mut |resolve, _| {
            WAKERS.with_borrow_mut(|(_, wakers)| wakers.insert(number, resolve));
        });
        (Arc::new(Alarm(number)), promise)
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        let resolve = WAKERS.with_borrow_mut(|(_, wakers)| wakers.remove(&self.0));
        if let Some(resolve) = resolve {
            // A resolve function of a promise does not throw.
            let _ = resolve.call0(&JsValue::UNDEFINED);
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        WAKERS.with_borrow_mut(|(_, wakers)| wakers.remove(&self.0));
    }
}

/// Runs a future to its end; the stack is suspended while it is pending.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    // On the heap: what wakes the future may write to it while this stack is suspended, when its memory is that of another.
    let mut future = Box::pin(future);
    loop {
        let (alarm, promise) = Alarm::new();
        let waker = alarm.into();
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        suspend(&promise);
    }
}

/// Suspends the stack until a promise is settled. Throws if the caller was not exported with `#[wasm_bindgen(jspi)]`, or
/// if the promise is rejected.
pub fn suspend(promise: &Promise) {
    #[expect(deprecated, reason = "its only mark for an experimental interface")]
    let settled = js_sys::futures::jspi_block_on_promise(promise);
    if let Err(error) = settled {
        wasm_bindgen::throw_val(error);
    }
}

/// Returns what [`wait`] needs of the last submission.
pub fn submitted(queue: &wgpu::Queue, _index: wgpu::SubmissionIndex) -> Submission {
    done(queue)
}

/// Returns an event that is set when all work submitted so far is done, or the device is lost.
fn done(queue: &wgpu::Queue) -> Submission {
    let done = Arc::new(ManualResetEvent::new(false));
    let setter = Arc::clone(&done);
    queue.on_submitted_work_done(move || setter.set());
    done
}

/// Waits for one submission, or for all if `None`. There is no time limit: the browser resets a device that hangs.
pub fn wait(
    _device: &wgpu::Device,
    queue: &wgpu::Queue,
    submission: Option<&Submission>,
    _timeout: Duration,
) -> Result<(), Interrupted> {
    let submission = submission.cloned().unwrap_or_else(|| done(queue));
    if !submission.is_set() {
        block_on(submission.wait());
    }
    Ok(())
}

/// Does nothing: the browser runs the callbacks of finished work.
pub fn poll(_device: &wgpu::Device) -> Result<(), Interrupted> {
    Ok(())
}

/// Ends error scopes. Waiting for what they captured would cost a round trip to the GPU's process for each call, so
/// `late` receives the error, before the end of a later wait.
pub fn pop(scopes: ErrorScopes, late: impl FnOnce(wgpu::Error) + 'static) -> Option<wgpu::Error> {
    let ErrorScopes { validation, internal, memory } = scopes;
    let (validation, internal, memory) = (validation.pop(), internal.pop(), memory.pop());
    js_sys::futures::spawn_local(async move {
        let errors = [validation.await, internal.await, memory.await];
        if let Some(error) = errors.into_iter().flatten().next() {
            late(error);
        }
    });
    None
}
