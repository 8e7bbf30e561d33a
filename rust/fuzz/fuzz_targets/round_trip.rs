#![no_main]

declora_fuzz::target!("round_trip");
