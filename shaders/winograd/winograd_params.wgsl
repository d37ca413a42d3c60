// Parameters and tile indexing of Winograd's F(4x4, 3x3) and F(4x4, 5x5): tiles of 4x4 outputs, images
// first_example .. first_example + images. Declared in kernels::WinogradParams.
// uses: scalars

@group(0) @binding(0) var<uniform> uniform_params: Params;
// Private copy of the uniform parameters, assigned in `main`, because software drivers load uniforms lane by
// lane inside loops.
var<private> p: Params;

// Four channels of one tile: the work of one invocation.
struct Tile {
    image: u32,
    row: u32,
    column: u32,
    channel: u32,
    // Index of the tile, and whether its image is a valid example of the batch.
    tile_index: u32,
    valid: bool,
}

fn tile_of(index: u32) -> Tile {
    let channel_vectors = p.channels / 4u;
    let tile_index = index / channel_vectors;
    let tiles_per_image = p.tiles_h * p.tiles_w;
    let image = tile_index / tiles_per_image;
    let tile_in_image = tile_index % tiles_per_image;
    let valid = image < valid_count(p.images, 1u, p.first_example);
    let channel = index % channel_vectors * 4u;
    return Tile(
        p.first_example + image,
        tile_in_image / p.tiles_w * 4u,
        tile_in_image % p.tiles_w * 4u,
        channel,
        tile_index,
        valid,
    );
}

// Offset of component xi (one element of the transformed tile), in units of vec4.
fn component_offset(xi: u32, tile: Tile) -> u32 {
    let tiles = p.images * p.tiles_h * p.tiles_w;
    return ((xi * tiles + tile.tile_index) * p.channels + tile.channel) / 4u;
}
