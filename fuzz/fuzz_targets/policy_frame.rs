//! What a peer says about policies, and what the machine makes of it: any bytes.
#![no_main]

use honeylink_core::limits::POLICIES_MAX;
use honeylink_core::qos::policy::{Policies, PolicyFrame, PolicyInput, PolicyOutput};
use honeylink_core::time::Time;

libfuzzer_sys::fuzz_target!(|frames: Vec<&[u8]>| {
    let mut policies = Policies::default();
    let mut taken = 0;
    for frame in frames {
        let Ok(frame) = PolicyFrame::decode(frame) else { continue };
        policies.handle(Time::ZERO, PolicyInput::Frame(frame));
        while let Some(output) = policies.poll_output() {
            if let PolicyOutput::PeerUses(policy) = output {
                assert!(policy.check().is_ok());
                taken += usize::from(policies.peers_policy(&policy.name) != Some(&policy));
            }
        }
    }
    assert!(taken <= POLICIES_MAX);
});
