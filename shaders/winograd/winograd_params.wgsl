// What the transforms of Winograd's F(4x4, 3x3) and F(4x4, 5x5) are told: tiles of 4x4 results, images first_row ..
// first_row + images. Twin of kernels::WinogradParams.
// uses: scalars

@group(0) @binding(0) var<uniform> given: Params;
// A copy that `main` makes: software drivers read a uniform lane by lane inside loops.
var<private> p: Params;

// Four channels of one tile.
struct Tile {
    image: u32,
    row: u32,
    column: u32,
    channel: u32,
    // The tile's number, and whether it is of an image in use.
    number: u32,
    used: bool,
}

fn tile_of(index: u32) -> Tile {
    let fours = p.channels / 4u;
    let number = index / fours;
    let of_image = p.tiles_h * p.tiles_w;
    let image = number / of_image;
    let place = number % of_image;
    let used = image < live(p.images, 1u, p.first_row);
    let channel = index % fours * 4u;
    return Tile(p.first_row + image, place / p.tiles_w * 4u, place % p.tiles_w * 4u, channel, number, used);
}

// Where component xi of a tile's transform lies, in fours of channels.
fn component(xi: u32, tile: Tile) -> u32 {
    let tiles = p.images * p.tiles_h * p.tiles_w;
    return ((xi * tiles + tile.number) * p.channels + tile.channel) / 4u;
}
